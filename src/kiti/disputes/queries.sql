-- A dispute of the gateway's is written down once: the unique constraint refuses it a second time.
-- open :execute
INSERT INTO dispute (
    booking_id, id, gateway, dispute_id, transaction_id, amount, currency, reserved, state, reason, answer_by,
    opened_at, attention
)
VALUES (
    %(booking)s, %(id)s, %(gateway)s, %(dispute_id)s, %(transaction_id)s, %(amount)s, %(currency)s, %(reserved)s,
    'open', %(reason)s, %(answer_by)s, kiti_now(), %(attention)s
);

-- An answer that was on its way when the dispute ended has nothing left to wait for.
-- close_dispute :execute
UPDATE dispute SET
    state = %(to_state)s,
    ended_at = kiti_now(),
    answer_state = CASE WHEN answer_state = 'submitting' THEN 'sent' ELSE answer_state END,
    act_after = NULL
WHERE booking_id = %(booking)s AND id = %(id)s AND state = %(from_state)s;

-- note :execute
INSERT INTO dispute_history (booking_id, dispute_id, id, at, actor, from_state, to_state, reason)
VALUES (%(booking)s, %(dispute)s, %(id)s, kiti_now(), %(actor)s, %(from_state)s, %(to_state)s, %(reason)s);

-- The number of attempts is part of what was seen: an answer that was refused may be given again.
-- answer :execute
UPDATE dispute SET
    answer = %(answer)s,
    answer_state = 'submitting',
    answer_comment = %(comment)s,
    answer_failure = '',
    answered_by = %(actor)s,
    attempts = attempts + 1,
    act_after = kiti_now() + %(seconds)s * interval '1 second'
WHERE
    booking_id = %(booking)s AND id = %(id)s AND state = 'open' AND attempts = %(attempts)s
    AND (answer_state IS NULL OR answer_state = 'refused');

-- Whoever loses this does not ask.
-- ask_again :execute
UPDATE dispute SET attempts = attempts + 1, act_after = kiti_now() + %(seconds)s * interval '1 second'
WHERE
    booking_id = %(booking)s AND id = %(id)s AND state = 'open' AND attempts = %(attempts)s
    AND answer_state = 'submitting';

-- answered :execute
UPDATE dispute SET answer_state = %(answer_state)s, answer_failure = %(failure)s, act_after = NULL
WHERE
    booking_id = %(booking)s AND id = %(id)s AND state = 'open' AND attempts = %(attempts)s
    AND answer_state = 'submitting';

-- set_attention :execute
UPDATE dispute SET attention = %(attention)s
WHERE booking_id = %(booking)s AND id = %(id)s AND attention <> %(attention)s;

-- set_answer_by :execute
UPDATE dispute SET answer_by = %(answer_by)s
WHERE booking_id = %(booking)s AND id = %(id)s AND answer_by IS DISTINCT FROM %(answer_by)s;

-- remind :execute
UPDATE dispute SET reminders = %(due)s
WHERE booking_id = %(booking)s AND id = %(id)s AND state = 'open' AND reminders < %(due)s;

-- by_id :maybe
SELECT
    booking_id,
    id,
    gateway,
    dispute_id,
    transaction_id,
    amount,
    currency,
    reserved,
    state,
    reason,
    answer_by,
    opened_at,
    ended_at,
    answer,
    answer_state,
    answer_comment,
    answer_failure,
    attempts,
    act_after,
    attention,
    reminders,
    kiti_now() AS now
FROM dispute
WHERE id = %(id)s;

-- of_booking :many
SELECT
    booking_id,
    id,
    gateway,
    dispute_id,
    transaction_id,
    amount,
    currency,
    reserved,
    state,
    reason,
    answer_by,
    opened_at,
    ended_at,
    answer,
    answer_state,
    answer_comment,
    answer_failure,
    attempts,
    act_after,
    attention,
    reminders,
    kiti_now() AS now
FROM dispute
WHERE booking_id = %(booking)s
ORDER BY opened_at, id;

-- Answers whose fate is unknown.
-- due :many
SELECT id FROM dispute
WHERE act_after <= kiti_now()
ORDER BY act_after
LIMIT %(limit)s;

-- The earliest of those that are open still; of a gateway.
-- oldest_open :one
SELECT min(opened_at) AS at FROM dispute
WHERE state = 'open' AND gateway = %(gateway)s;

-- What can still be answered, the most urgent first; then what needs a person; then the newest.
-- office_lines :many
SELECT
    dispute.booking_id,
    dispute.id,
    dispute.gateway,
    dispute.dispute_id,
    dispute.transaction_id,
    dispute.amount,
    dispute.currency,
    dispute.reserved,
    dispute.state,
    dispute.reason,
    dispute.answer_by,
    dispute.opened_at,
    dispute.ended_at,
    dispute.answer,
    dispute.answer_state,
    dispute.answer_comment,
    dispute.answer_failure,
    dispute.attempts,
    dispute.act_after,
    dispute.attention,
    dispute.reminders,
    kiti_now() AS now,
    booking.reference
FROM dispute
INNER JOIN booking ON dispute.booking_id = booking.id
WHERE
    dispute.state = any(%(states)s::text[])
    AND (%(gateway)s::text = '' OR dispute.gateway = %(gateway)s)
    AND (NOT %(waiting)s::boolean OR dispute.state = 'open' OR dispute.attention <> '')
ORDER BY
    (dispute.state = 'open') DESC, (dispute.attention <> '') DESC, dispute.answer_by ASC, dispute.opened_at DESC,
    dispute.id ASC
LIMIT %(limit)s;

-- history :many
SELECT
    at,
    actor,
    from_state,
    to_state,
    reason
FROM dispute_history
WHERE booking_id = %(booking)s AND dispute_id = %(dispute)s
ORDER BY at, id
LIMIT 500;

-- waiting :one
SELECT
    count(*) FILTER (WHERE state = 'open' AND (answer_state IS NULL OR answer_state = 'refused')) AS unanswered,
    count(*) FILTER (WHERE attention <> '') AS attention,
    min(answer_by) FILTER (
        WHERE state = 'open' AND (answer_state IS NULL OR answer_state = 'refused')
    ) AS answer_by
FROM dispute
WHERE state = 'open' OR attention <> '';
