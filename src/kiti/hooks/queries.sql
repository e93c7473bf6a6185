-- Events of bookings and their deliveries, for those who listen. Where nobody does, nothing else is read or written.
-- announce :execute
WITH new AS MATERIALIZED (
    SELECT
        given.id,
        given.booking_id,
        given.type,
        given.trip_id,
        given.detail
    FROM
        unnest(
            %(ids)s::uuid[], %(bookings)s::uuid[], %(types)s::text[], %(trips)s::uuid[], %(details)s::jsonb[]
        ) AS given (id, booking_id, type, trip_id, detail)
),

wanted AS MATERIALIZED (
    SELECT
        new.id AS event_id,
        new.booking_id,
        webhook_endpoint.id AS endpoint_id
    FROM webhook_endpoint
    INNER JOIN new ON new.type = any(webhook_endpoint.event_types)
    WHERE
        webhook_endpoint.disabled_at IS NULL
        AND (
            webhook_endpoint.operator_id IS NULL
            OR EXISTS (
                SELECT 1 FROM booking_seat
                WHERE
                    booking_seat.booking_id = new.booking_id
                    AND booking_seat.operator_id = webhook_endpoint.operator_id
                    AND (new.trip_id IS NULL OR booking_seat.trip_id = new.trip_id)
            )
        )
),

written AS (
    INSERT INTO hook_event (subject_id, id, type, created_at, is_shared, data)
    SELECT
        new.booking_id,
        new.id,
        new.type,
        kiti_now() AS created_at,
        lines.operators > 1 AS is_shared,
        jsonb_build_object(
            'bookingId', booking.id,
            'reference', booking.reference,
            'status', upper(booking.state),
            'currency', booking.currency,
            'amount', booking.amount,
            'trips', lines.trips
        ) || new.detail AS data
    FROM (SELECT DISTINCT event_id FROM wanted) AS chosen
    INNER JOIN new ON chosen.event_id = new.id
    INNER JOIN booking ON new.booking_id = booking.id
    CROSS JOIN LATERAL (
        SELECT
            (
                SELECT count(DISTINCT part.operator_id)
                FROM booking_seat AS part
                WHERE part.booking_id = booking.id
            ) AS operators,
            jsonb_agg(
                jsonb_build_object(
                    'tripId', ride.trip_id,
                    'operator', operator.code,
                    'status', upper(trip.state),
                    'from', boards.code,
                    'to', alights.code,
                    'departsAt', to_char(leaves.departs_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
                    'seats', ride.seats,
                    'amount', ride.amount
                )
                ORDER BY leaves.departs_at, ride.from_seq
            ) AS trips
        FROM (
            SELECT
                line.trip_id,
                line.from_seq,
                line.to_seq,
                jsonb_agg(line.seat ORDER BY line.position) AS seats,
                sum(line.fare)::bigint AS amount
            FROM booking_seat AS line
            WHERE line.booking_id = booking.id AND (new.trip_id IS NULL OR line.trip_id = new.trip_id)
            GROUP BY line.trip_id, line.from_seq, line.to_seq
        ) AS ride
        INNER JOIN trip ON ride.trip_id = trip.id
        INNER JOIN operator ON trip.operator_id = operator.id
        INNER JOIN trip_stop AS leaves ON ride.trip_id = leaves.trip_id AND ride.from_seq = leaves.seq
        INNER JOIN trip_stop AS reaches ON ride.trip_id = reaches.trip_id AND ride.to_seq = reaches.seq
        INNER JOIN stop AS boards ON leaves.stop_id = boards.id
        INNER JOIN stop AS alights ON reaches.stop_id = alights.id
    ) AS lines
)

INSERT INTO hook_delivery (subject_id, event_id, endpoint_id, round, state, act_after, created_at)
SELECT
    booking_id,
    event_id,
    endpoint_id,
    0 AS round,
    'pending' AS state,
    kiti_now() AS act_after,
    kiti_now() AS created_at
FROM wanted;

-- listened_to :many
SELECT id FROM webhook_endpoint
WHERE disabled_at IS NULL AND %(type)s::text = any(event_types)
ORDER BY id
LIMIT 1;

-- An event that belongs to one operator and to no booking.
-- announce_of_operator :execute
WITH wanted AS MATERIALIZED (
    SELECT id AS endpoint_id
    FROM webhook_endpoint
    WHERE
        disabled_at IS NULL
        AND %(type)s::text = any(event_types)
        AND (operator_id IS NULL OR operator_id = %(operator)s::uuid)
),

written AS (
    INSERT INTO hook_event (subject_id, id, type, created_at, is_shared, data)
    SELECT
        %(subject)s::uuid AS subject_id,
        %(id)s::uuid AS id,
        %(type)s::text AS type,
        kiti_now() AS created_at,
        FALSE AS is_shared,
        %(data)s::jsonb AS data
    WHERE EXISTS (SELECT 1 FROM wanted)
)

INSERT INTO hook_delivery (subject_id, event_id, endpoint_id, round, state, act_after, created_at)
SELECT
    %(subject)s::uuid AS subject_id,
    %(id)s::uuid AS event_id,
    wanted.endpoint_id,
    0 AS round,
    'pending' AS state,
    kiti_now() AS act_after,
    kiti_now() AS created_at
FROM wanted;

-- announce_test :execute
WITH written AS (
    INSERT INTO hook_event (subject_id, id, type, created_at, is_shared, data)
    VALUES (
        %(endpoint)s::uuid, %(id)s::uuid, %(type)s::text, kiti_now(), FALSE,
        jsonb_build_object('endpointId', %(endpoint)s::uuid)
    )
    RETURNING subject_id, id
)

INSERT INTO hook_delivery (subject_id, event_id, endpoint_id, round, state, act_after, created_at)
SELECT
    written.subject_id,
    written.id,
    %(endpoint)s::uuid AS endpoint_id,
    0 AS round,
    'pending' AS state,
    kiti_now() AS act_after,
    kiti_now() AS created_at
FROM written;

-- add :execute
INSERT INTO webhook_endpoint (id, operator_id, url, description, event_types, secret, created_at)
VALUES (
    %(id)s::uuid, %(operator)s::uuid, %(url)s::text, %(description)s::text, %(event_types)s::text[], %(secret)s::bytea,
    kiti_now()
);

-- Whoever makes an endpoint waits for others who do, so that they are counted.
-- serialise_making :execute
SELECT pg_advisory_xact_lock(hashtextextended('kiti webhook endpoint', 0));

-- number_of_owner :one
SELECT count(*) AS number
FROM webhook_endpoint
WHERE operator_id IS NOT DISTINCT FROM %(operator)s::uuid AND disabled_at IS NULL;

-- rotate :execute
UPDATE webhook_endpoint SET
    previous_secret = CASE WHEN %(overlap_hours)s::integer > 0 THEN webhook_endpoint.secret END,
    previous_until = CASE
        WHEN %(overlap_hours)s::integer > 0 THEN kiti_now() + %(overlap_hours)s::integer * interval '1 hour'
    END,
    secret = %(secret)s::bytea
WHERE id = %(endpoint)s::uuid;

-- disable :execute
UPDATE webhook_endpoint SET disabled_at = kiti_now(), disabled_reason = %(reason)s::text
WHERE id = %(endpoint)s::uuid AND disabled_at IS NULL;

-- enable :execute
UPDATE webhook_endpoint SET disabled_at = NULL, disabled_reason = NULL, failing_since = NULL, rests_until = NULL
WHERE id = %(endpoint)s::uuid AND disabled_at IS NOT NULL;

-- by_id :maybe
SELECT
    webhook_endpoint.id,
    webhook_endpoint.operator_id,
    operator.code AS operator,
    webhook_endpoint.url,
    webhook_endpoint.description,
    webhook_endpoint.event_types,
    webhook_endpoint.created_at,
    CASE WHEN webhook_endpoint.previous_until > kiti_now() THEN webhook_endpoint.previous_until END AS previous_until,
    webhook_endpoint.failing_since,
    webhook_endpoint.rests_until,
    webhook_endpoint.disabled_at,
    webhook_endpoint.disabled_reason,
    kiti_now() AS now
FROM webhook_endpoint
LEFT JOIN operator ON webhook_endpoint.operator_id = operator.id
WHERE webhook_endpoint.id = %(endpoint)s::uuid;

-- Those of an operator, or of everybody and the platform.
-- endpoints :many
SELECT
    webhook_endpoint.id,
    webhook_endpoint.operator_id,
    operator.code AS operator,
    webhook_endpoint.url,
    webhook_endpoint.description,
    webhook_endpoint.event_types,
    webhook_endpoint.created_at,
    CASE WHEN webhook_endpoint.previous_until > kiti_now() THEN webhook_endpoint.previous_until END AS previous_until,
    webhook_endpoint.failing_since,
    webhook_endpoint.rests_until,
    webhook_endpoint.disabled_at,
    webhook_endpoint.disabled_reason,
    kiti_now() AS now
FROM webhook_endpoint
LEFT JOIN operator ON webhook_endpoint.operator_id = operator.id
WHERE %(operator)s::uuid IS NULL OR webhook_endpoint.operator_id = %(operator)s::uuid
ORDER BY webhook_endpoint.disabled_at IS NOT NULL, webhook_endpoint.created_at
LIMIT %(limit)s::integer;

-- secrets :many
SELECT
    id,
    secret
FROM webhook_endpoint
WHERE disabled_at IS NULL
ORDER BY created_at
LIMIT %(limit)s::integer;

-- Endpoints with something to send now, those that answer before those that do not.
-- due_endpoints :many
SELECT
    id,
    failing_since IS NOT NULL AS is_failing
FROM webhook_endpoint
WHERE
    disabled_at IS NULL
    AND (rests_until IS NULL OR rests_until <= kiti_now())
    AND id <> all(%(but)s::uuid[])
    AND (%(chosen)s::uuid IS NULL OR id = %(chosen)s::uuid)
    AND EXISTS (
        SELECT 1 FROM hook_delivery
        WHERE
            hook_delivery.endpoint_id = webhook_endpoint.id
            AND hook_delivery.state = 'pending'
            AND hook_delivery.act_after <= kiti_now()
    )
ORDER BY failing_since NULLS FIRST, id
LIMIT %(limit)s::integer;

-- Whoever takes from an endpoint waits for others who do: together they keep to what it is sent at once.
-- lock_listener :maybe
SELECT
    webhook_endpoint.id,
    operator.code AS operator,
    webhook_endpoint.url,
    webhook_endpoint.secret,
    CASE WHEN webhook_endpoint.previous_until > kiti_now() THEN webhook_endpoint.previous_secret END
        AS previous_secret,
    webhook_endpoint.failing_since IS NOT NULL AS is_failing
FROM webhook_endpoint
LEFT JOIN operator ON webhook_endpoint.operator_id = operator.id
WHERE
    webhook_endpoint.id = %(endpoint)s::uuid
    AND webhook_endpoint.disabled_at IS NULL
    AND (webhook_endpoint.rests_until IS NULL OR webhook_endpoint.rests_until <= kiti_now())
FOR NO KEY UPDATE OF webhook_endpoint;

-- take :many
WITH due AS (
    SELECT
        subject_id,
        event_id,
        round
    FROM hook_delivery
    WHERE endpoint_id = %(endpoint)s::uuid AND state = 'pending' AND act_after <= kiti_now()
    ORDER BY act_after
    LIMIT (
        SELECT greatest(0, %(at_once)s::integer - count(*))
        FROM hook_delivery AS other
        WHERE
            other.endpoint_id = %(endpoint)s::uuid
            AND other.state = 'sending'
            AND other.act_after > kiti_now()
    )
    FOR UPDATE SKIP LOCKED
)

UPDATE hook_delivery
SET
    state = 'sending',
    attempts = hook_delivery.attempts + 1,
    attempted_at = kiti_now(),
    act_after = kiti_now() + %(lease_seconds)s::integer * interval '1 second'
FROM due, hook_event
WHERE
    hook_delivery.subject_id = due.subject_id
    AND hook_delivery.event_id = due.event_id
    AND hook_delivery.endpoint_id = %(endpoint)s::uuid
    AND hook_delivery.round = due.round
    AND hook_delivery.state = 'pending'
    AND hook_event.subject_id = due.subject_id
    AND hook_event.id = due.event_id
RETURNING
    hook_delivery.subject_id,
    hook_delivery.event_id,
    hook_delivery.round,
    hook_delivery.attempts,
    hook_event.type,
    hook_event.created_at,
    hook_event.is_shared,
    hook_event.data;

-- Those whose sender has died are sent again: whoever gets one twice knows it by its id.
-- recover :execute
WITH lapsed AS (
    SELECT
        subject_id,
        event_id,
        endpoint_id,
        round
    FROM hook_delivery
    WHERE state = 'sending' AND act_after <= kiti_now()
    ORDER BY act_after
    LIMIT %(limit)s::integer
    FOR UPDATE SKIP LOCKED
)

UPDATE hook_delivery
SET
    state = CASE WHEN hook_delivery.attempts < %(max_attempts)s::integer THEN 'pending' ELSE 'failed' END,
    act_after = CASE WHEN hook_delivery.attempts < %(max_attempts)s::integer THEN kiti_now() END,
    status = NULL,
    snippet = NULL,
    reason = %(reason)s::text
FROM lapsed
WHERE
    hook_delivery.subject_id = lapsed.subject_id
    AND hook_delivery.event_id = lapsed.event_id
    AND hook_delivery.endpoint_id = lapsed.endpoint_id
    AND hook_delivery.round = lapsed.round
    AND hook_delivery.state = 'sending';

-- Whoever took a delivery is the only one who says what became of it: a later attempt has another number.
-- finish :execute
UPDATE hook_delivery
SET
    state = done.state,
    act_after = kiti_now() + done.wait_seconds * interval '1 second',
    status = done.status,
    reason = done.reason,
    snippet = done.snippet
FROM
    unnest(
        %(subjects)s::uuid[], %(events)s::uuid[], %(rounds)s::smallint[], %(attempts)s::smallint[],
        %(states)s::text[], %(waits_seconds)s::integer[], %(statuses)s::smallint[], %(reasons)s::text[],
        %(snippets)s::text[]
    ) AS done (subject_id, event_id, round, attempts, state, wait_seconds, status, reason, snippet)
WHERE
    hook_delivery.subject_id = done.subject_id
    AND hook_delivery.event_id = done.event_id
    AND hook_delivery.endpoint_id = %(endpoint)s::uuid
    AND hook_delivery.round = done.round
    AND hook_delivery.state = 'sending'
    AND hook_delivery.attempts = done.attempts;

-- note_success :execute
UPDATE webhook_endpoint SET failing_since = NULL
WHERE id = %(endpoint)s::uuid AND failing_since IS NOT NULL;

-- note_failure :execute
UPDATE webhook_endpoint SET failing_since = kiti_now()
WHERE id = %(endpoint)s::uuid AND failing_since IS NULL;

-- disable_failing :execute
UPDATE webhook_endpoint SET disabled_at = kiti_now(), disabled_reason = %(reason)s::text
WHERE
    id = %(endpoint)s::uuid AND disabled_at IS NULL
    AND failing_since <= kiti_now() - %(days)s::integer * interval '1 day';

-- rest :execute
UPDATE webhook_endpoint SET rests_until = kiti_now() + %(seconds)s::integer * interval '1 second'
WHERE id = %(endpoint)s::uuid;

-- The same event once more, unless it is on its way already.
-- replay :maybe
INSERT INTO hook_delivery (subject_id, event_id, endpoint_id, round, state, act_after, created_at)
SELECT
    last.subject_id,
    last.event_id,
    last.endpoint_id,
    last.round + 1 AS round,
    'pending' AS state,
    kiti_now() AS act_after,
    kiti_now() AS created_at
FROM (
    SELECT
        subject_id,
        event_id,
        endpoint_id,
        round,
        state
    FROM hook_delivery
    WHERE endpoint_id = %(endpoint)s::uuid AND event_id = %(event)s::uuid
    ORDER BY round DESC
    LIMIT 1
) AS last
WHERE last.state IN ('delivered', 'failed')
ON CONFLICT DO NOTHING
RETURNING round;

-- replay_failed :execute
INSERT INTO hook_delivery (subject_id, event_id, endpoint_id, round, state, act_after, created_at)
SELECT
    failed.subject_id,
    failed.event_id,
    failed.endpoint_id,
    failed.round + 1 AS round,
    'pending' AS state,
    kiti_now() AS act_after,
    kiti_now() AS created_at
FROM hook_delivery AS failed
WHERE
    failed.endpoint_id = %(endpoint)s::uuid
    AND failed.state = 'failed'
    AND NOT EXISTS (
        SELECT 1 FROM hook_delivery AS later
        WHERE
            later.subject_id = failed.subject_id
            AND later.event_id = failed.event_id
            AND later.endpoint_id = failed.endpoint_id
            AND later.round > failed.round
    )
ORDER BY failed.event_id
LIMIT %(limit)s::integer
ON CONFLICT DO NOTHING;

-- log :many
SELECT
    hook_delivery.subject_id,
    hook_delivery.event_id,
    hook_delivery.endpoint_id,
    hook_delivery.round,
    hook_event.type,
    hook_event.created_at AS happened_at,
    hook_event.is_shared,
    hook_event.data,
    hook_delivery.state,
    hook_delivery.attempts,
    hook_delivery.act_after,
    hook_delivery.attempted_at,
    hook_delivery.status,
    hook_delivery.reason,
    hook_delivery.snippet
FROM hook_delivery
INNER JOIN hook_event
    ON hook_delivery.subject_id = hook_event.subject_id AND hook_delivery.event_id = hook_event.id
WHERE
    hook_delivery.endpoint_id = %(endpoint)s::uuid
    AND hook_delivery.state = any(%(states)s::text[])
    AND (hook_delivery.event_id, hook_delivery.round) < (%(before)s::uuid, %(before_round)s::integer)
ORDER BY hook_delivery.event_id DESC, hook_delivery.round DESC
LIMIT %(limit)s::integer;

-- rounds :many
SELECT
    hook_delivery.subject_id,
    hook_delivery.event_id,
    hook_delivery.endpoint_id,
    hook_delivery.round,
    hook_event.type,
    hook_event.created_at AS happened_at,
    hook_event.is_shared,
    hook_event.data,
    hook_delivery.state,
    hook_delivery.attempts,
    hook_delivery.act_after,
    hook_delivery.attempted_at,
    hook_delivery.status,
    hook_delivery.reason,
    hook_delivery.snippet
FROM hook_delivery
INNER JOIN hook_event
    ON hook_delivery.subject_id = hook_event.subject_id AND hook_delivery.event_id = hook_event.id
WHERE hook_delivery.endpoint_id = %(endpoint)s::uuid AND hook_delivery.event_id = %(event)s::uuid
ORDER BY hook_delivery.round DESC
LIMIT %(limit)s::integer;

-- Their deliveries go with them.
-- forget :execute
DELETE FROM hook_event
WHERE (subject_id, id) IN (
    SELECT
        old.subject_id,
        old.id
    FROM hook_event AS old
    WHERE old.created_at <= kiti_now() - %(keep_days)s::integer * interval '1 day'
    ORDER BY old.created_at
    LIMIT %(limit)s::integer
);
