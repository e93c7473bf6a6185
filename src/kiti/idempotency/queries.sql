-- The first request gets the key, and so does a retry whose predecessor has died; nobody else gets a row.
-- take :maybe
INSERT INTO idempotency_key AS held (key, fingerprint, locked_until, created_at)
VALUES (
    %(key)s::bytea,
    %(fingerprint)s::bytea,
    kiti_now() + %(lock_seconds)s::integer * interval '1 second',
    kiti_now()
)
ON CONFLICT (key) DO UPDATE
    SET
        locked_until = excluded.locked_until,
        created_at = excluded.created_at,
        fingerprint = excluded.fingerprint,
        status = NULL,
        media_type = '',
        body = ''
    WHERE
    (
        held.status IS NULL AND held.locked_until <= excluded.created_at
        AND held.fingerprint = excluded.fingerprint
    )
    OR held.created_at <= excluded.created_at - %(keep_hours)s::integer * interval '1 hour'
RETURNING held.locked_until;

-- Without an answer and past its lock: its first request has died.
-- find :maybe
SELECT
    fingerprint,
    status,
    media_type,
    body
FROM idempotency_key
WHERE
    key = %(key)s::bytea
    AND created_at > kiti_now() - %(keep_hours)s::integer * interval '1 hour'
    AND (status IS NOT NULL OR locked_until > kiti_now());

-- drop_stale :execute
DELETE FROM idempotency_key
WHERE
    key = %(key)s::bytea
    AND (
        created_at <= kiti_now() - %(keep_hours)s::integer * interval '1 hour'
        OR (status IS NULL AND locked_until <= kiti_now())
    );

-- drop_answer :execute
DELETE FROM idempotency_key
WHERE key = %(key)s::bytea;

-- The end of the lock says whose it is: who took over from a holder that was thought dead has a later one.
-- store :execute
UPDATE idempotency_key SET status = %(status)s::smallint, media_type = %(media_type)s::text, body = %(body)s::bytea
WHERE key = %(key)s::bytea AND status IS NULL AND locked_until = %(locked_until)s::timestamptz;

-- give_up :execute
DELETE FROM idempotency_key
WHERE key = %(key)s::bytea AND status IS NULL AND locked_until = %(locked_until)s::timestamptz;

-- Keys and answers of a batch, together with what they answer for. A key that exists breaks the batch.
-- keep :execute
INSERT INTO idempotency_key (key, fingerprint, locked_until, created_at, status, media_type, body)
SELECT
    new.key,
    new.fingerprint,
    kiti_now() AS locked_until,
    kiti_now() AS created_at,
    %(status)s::smallint AS status,
    %(media_type)s::text AS media_type,
    new.body
FROM unnest(%(keys)s::bytea[], %(fingerprints)s::bytea[], %(bodies)s::bytea[]) AS new (key, fingerprint, body);

-- forget :execute
DELETE FROM idempotency_key
WHERE key IN (
    SELECT key FROM idempotency_key
    WHERE created_at <= kiti_now() - %(keep_hours)s::integer * interval '1 hour'
    ORDER BY created_at
    LIMIT %(limit)s::integer
);
