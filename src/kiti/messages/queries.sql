-- Many at once; who has been told of an event already is not told again.
-- enqueue :execute
INSERT INTO message (
    booking_id, id, event, channel, recipient, language, state, act_after, created_at, data
)
SELECT
    new.booking_id,
    new.id,
    new.event,
    new.channel,
    new.recipient,
    new.language,
    'queued' AS state,
    kiti_now() AS act_after,
    kiti_now() AS created_at,
    new.data
FROM
    unnest(
        %(bookings)s::uuid[],
        %(ids)s::uuid[],
        %(events)s::text[],
        %(channels)s::text[],
        %(recipients)s::text[],
        %(languages)s::text[],
        %(data)s::jsonb[]
    ) AS new (booking_id, id, event, channel, recipient, language, data)
ON CONFLICT (booking_id, event, channel, recipient) DO NOTHING;

-- Some that are due, for one who sends them; those that somebody else is just taking are left to them.
-- take :many
WITH due AS (
    SELECT
        booking_id,
        id
    FROM message
    WHERE act_after <= kiti_now() AND state = 'queued'
    ORDER BY act_after
    LIMIT %(limit)s::integer
    FOR UPDATE SKIP LOCKED
)

UPDATE message
SET
    state = 'sending',
    attempts = message.attempts + 1,
    act_after = kiti_now() + %(lease_seconds)s::integer * interval '1 second'
FROM due, booking
WHERE
    message.booking_id = due.booking_id AND message.id = due.id AND message.state = 'queued'
    AND booking.id = due.booking_id
RETURNING
    message.booking_id,
    message.id,
    message.event,
    message.channel,
    message.recipient,
    message.language,
    message.attempts,
    message.doubts,
    message.data,
    booking.reference,
    booking.state AS booking_state,
    booking.currency,
    booking.amount,
    booking.contact_name,
    booking.hold_expires_at,
    kiti_now() AS now;

-- Those whose sender has died: they may have gone out or not.
-- recover :execute
WITH lapsed AS (
    SELECT
        booking_id,
        id
    FROM message
    WHERE act_after <= kiti_now() AND state = 'sending'
    ORDER BY act_after
    LIMIT %(limit)s::integer
    FOR UPDATE SKIP LOCKED
)

UPDATE message
SET
    state = CASE WHEN message.doubts + 1 < %(max_doubts)s::integer THEN 'queued' ELSE 'parked' END,
    act_after = CASE WHEN message.doubts + 1 < %(max_doubts)s::integer THEN kiti_now() END,
    doubts = message.doubts + 1,
    failure_reason = %(reason)s::text
FROM lapsed
WHERE message.booking_id = lapsed.booking_id AND message.id = lapsed.id AND message.state = 'sending';

-- Whoever took a message is the only one who says what became of it: a later attempt has another number.
-- finish :execute
UPDATE message
SET
    state = done.state,
    act_after = kiti_now() + done.wait_seconds * interval '1 second',
    sent_at = CASE WHEN done.state = 'sent' THEN kiti_now() END,
    provider_id = done.provider_id,
    failure_reason = done.reason,
    doubts = message.doubts + done.doubts
FROM
    unnest(
        %(bookings)s::uuid[],
        %(ids)s::uuid[],
        %(attempts)s::smallint[],
        %(states)s::text[],
        %(waits_seconds)s::integer[],
        %(provider_ids)s::text[],
        %(reasons)s::text[],
        %(doubts)s::smallint[]
    ) AS done (booking_id, id, attempts, state, wait_seconds, provider_id, reason, doubts)
WHERE
    message.booking_id = done.booking_id AND message.id = done.id
    AND message.state = 'sending' AND message.attempts = done.attempts;

-- parked :many
SELECT
    booking_id,
    id,
    event,
    channel,
    failure_reason
FROM message
WHERE state = 'parked' AND created_at > kiti_now() - interval '7 days'
ORDER BY created_at DESC
LIMIT %(limit)s::integer;

-- Messages that were given up, as staff filter them, the latest first.
-- parked_like :many
SELECT
    message.booking_id,
    message.id,
    booking.reference,
    message.event,
    message.channel,
    message.recipient,
    message.attempts,
    message.created_at,
    message.failure_reason
FROM message
INNER JOIN booking ON message.booking_id = booking.id
WHERE
    message.state = 'parked'
    AND message.created_at >= %(since)s AND message.created_at < %(until)s
    AND (%(channel)s::text = '' OR message.channel = %(channel)s)
    AND (
        %(operator)s::uuid IS NULL
        OR EXISTS (
            SELECT 1 FROM every_seat AS seat
            WHERE seat.booking_id = message.booking_id AND seat.operator_id = %(operator)s::uuid
        )
    )
    AND (
        %(code)s::text = ''
        OR EXISTS (
            SELECT 1
            FROM every_seat AS seat
            INNER JOIN operator ON seat.operator_id = operator.id
            WHERE seat.booking_id = message.booking_id AND operator.code = %(code)s
        )
    )
ORDER BY message.created_at DESC, message.id DESC
LIMIT %(limit)s;

-- Parked ones have an index of their own, and are few.
-- parked_by_id :maybe
SELECT
    message.booking_id,
    message.id,
    booking.reference,
    message.event,
    message.channel,
    message.recipient,
    message.attempts,
    message.created_at,
    message.failure_reason
FROM message
INNER JOIN booking ON message.booking_id = booking.id
WHERE message.state = 'parked' AND message.id = %(id)s;

-- How often it was tried is part of what the person saw: parked again is not the 'parked' of before.
-- queue_again :execute
UPDATE message SET state = 'queued', act_after = kiti_now()
WHERE booking_id = %(booking)s AND id = %(id)s AND state = 'parked' AND attempts = %(attempts)s;
