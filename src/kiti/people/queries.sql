-- add_staff :execute
INSERT INTO staff (id, email, name, role, operator_id, password_hash, password_changed_at, created_at)
VALUES (
    %(id)s, %(email)s, %(name)s, %(role)s, %(operator)s, %(password_hash)s, kiti_now(), kiti_now()
)
ON CONFLICT (email) DO NOTHING;

-- Somebody who may work now.
-- active :maybe
SELECT
    staff.id,
    staff.email,
    staff.name,
    staff.role,
    staff.operator_id,
    operator.code AS operator_code,
    operator.name AS operator_name,
    operator.timezone AS operator_timezone
FROM staff
LEFT JOIN operator ON staff.operator_id = operator.id
WHERE staff.id = %(id)s AND staff.disabled_at IS NULL;

-- The same, if a token of theirs is good still.
-- of_token :maybe
SELECT
    staff.id,
    staff.email,
    staff.name,
    staff.role,
    staff.operator_id,
    operator.code AS operator_code,
    operator.name AS operator_name,
    operator.timezone AS operator_timezone
FROM staff
LEFT JOIN operator ON staff.operator_id = operator.id
WHERE
    staff.id = %(id)s
    AND staff.disabled_at IS NULL
    AND to_timestamp(%(expires)s) > kiti_now()
    AND to_timestamp(%(issued)s) >= date_trunc('second', staff.password_changed_at);

-- accounts :many
SELECT
    staff.id,
    staff.email,
    staff.name,
    staff.role,
    staff.operator_id,
    operator.code AS operator_code,
    operator.name AS operator_name,
    operator.timezone AS operator_timezone,
    staff.disabled_at,
    CASE WHEN staff.locked_until > kiti_now() THEN staff.locked_until END AS locked_until,
    (
        SELECT max(session.last_seen_at) FROM staff_session AS session
        WHERE session.staff_id = staff.id
    ) AS last_seen_at
FROM staff
LEFT JOIN operator ON staff.operator_id = operator.id
WHERE %(email)s::text IS NULL OR staff.email = %(email)s
ORDER BY operator.code NULLS FIRST, staff.email
LIMIT 1000;

-- operator_by_code :maybe
SELECT
    id,
    code,
    name,
    timezone
FROM operator
WHERE code = %(code)s;

-- Counts the attempt as failed before anybody looks at the password, so that many at once are not more than a few.
-- take_attempt :maybe
UPDATE staff SET
    failed_logins = failed_logins + 1,
    locked_until = CASE
        WHEN failed_logins + 1 >= %(tries)s::integer
            THEN kiti_now() + interval '1 second' * least(
                %(longest_seconds)s::integer,
                %(first_seconds)s::integer * 2 ^ least(failed_logins + 1 - %(tries)s::integer, 16)
            )
    END
WHERE email = %(email)s AND disabled_at IS NULL AND (locked_until IS NULL OR locked_until <= kiti_now())
RETURNING id, password_hash;

-- forgive :execute
UPDATE staff SET
    failed_logins = 0,
    locked_until = NULL
WHERE id = %(id)s;

-- The same password, by newer parameters: sessions and tokens stay good.
-- rehash :execute
UPDATE staff SET password_hash = %(new)s
WHERE id = %(id)s AND password_hash = %(old)s;

-- set_password :maybe
UPDATE staff SET
    password_hash = %(password_hash)s,
    password_changed_at = kiti_now(),
    failed_logins = 0,
    locked_until = NULL
WHERE email = %(email)s AND disabled_at IS NULL
RETURNING id;

-- disable :maybe
UPDATE staff SET disabled_at = kiti_now()
WHERE email = %(email)s AND disabled_at IS NULL
RETURNING id;

-- open_session :execute
INSERT INTO staff_session (id, staff_id, created_at, last_seen_at, expires_at, csrf)
VALUES (
    %(id)s, %(staff)s, kiti_now(), kiti_now(), kiti_now() + %(seconds)s * interval '1 second', %(csrf)s
);

-- session :maybe
SELECT
    session.id AS session_id,
    session.csrf,
    session.created_at,
    staff.id,
    staff.email,
    staff.name,
    staff.role,
    staff.operator_id,
    operator.code AS operator_code,
    operator.name AS operator_name,
    operator.timezone AS operator_timezone
FROM staff_session AS session
INNER JOIN staff ON session.staff_id = staff.id
LEFT JOIN operator ON staff.operator_id = operator.id
WHERE
    session.id = %(id)s
    AND session.ended_at IS NULL
    AND session.expires_at > kiti_now()
    AND session.last_seen_at > kiti_now() - %(idle_seconds)s * interval '1 second'
    AND staff.disabled_at IS NULL;

-- Once a minute at most: looking at a page should seldom have to write.
-- see_session :execute
UPDATE staff_session SET last_seen_at = kiti_now()
WHERE id = %(id)s AND last_seen_at < kiti_now() - interval '1 minute';

-- end_session :execute
UPDATE staff_session SET ended_at = kiti_now()
WHERE id = %(id)s AND ended_at IS NULL;

-- end_sessions :execute
UPDATE staff_session SET ended_at = kiti_now()
WHERE staff_id = %(staff)s AND ended_at IS NULL AND id <> %(except_id)s::bytea;

-- forget_sessions :execute
DELETE FROM staff_session
WHERE staff_id = %(staff)s AND expires_at < kiti_now() - interval '30 days';

-- now :one
SELECT kiti_now() AS now;
