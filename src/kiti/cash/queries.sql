-- The number counts the receipts of the booking, which is locked.
-- take :one
INSERT INTO cash_receipt (
    booking_id, id, payment_id, number, amount, currency, staff_id, counter, taken_at
)
SELECT
    %(booking)s::uuid AS booking_id,
    %(id)s::uuid AS id,
    %(payment)s::uuid AS payment_id,
    %(reference)s::text || '-' || (count(known.id) + 1)::text AS number,
    %(amount)s::bigint AS amount,
    %(currency)s::text AS currency,
    %(staff)s::uuid AS staff_id,
    %(counter)s::text AS counter,
    kiti_now() AS taken_at
FROM cash_receipt AS known
WHERE known.booking_id = %(booking)s::uuid
RETURNING booking_id, id, payment_id, number, amount, currency, staff_id, counter, taken_at;

-- hand_out :one
INSERT INTO cash_handout (booking_id, refund_id, staff_id, counter, handed_at)
VALUES (%(booking)s, %(refund)s, %(staff)s, %(counter)s, kiti_now())
RETURNING booking_id, refund_id, staff_id, counter, handed_at;

-- receipt_of_payment :maybe
SELECT
    booking_id,
    id,
    payment_id,
    number,
    amount,
    currency,
    staff_id,
    counter,
    taken_at
FROM cash_receipt
WHERE payment_id = %(payment)s;

-- receipt :maybe
SELECT
    booking_id,
    id,
    payment_id,
    number,
    amount,
    currency,
    staff_id,
    counter,
    taken_at
FROM cash_receipt
WHERE id = %(id)s;

-- receipts_between :many
SELECT
    booking_id,
    id,
    payment_id,
    number,
    amount,
    currency,
    staff_id,
    counter,
    taken_at
FROM cash_receipt
WHERE taken_at >= %(since)s AND taken_at < %(until)s
ORDER BY taken_at, id;

-- handout :maybe
SELECT
    booking_id,
    refund_id,
    staff_id,
    counter,
    handed_at
FROM cash_handout
WHERE booking_id = %(booking)s AND refund_id = %(refund)s;

-- refund :maybe
SELECT
    refund.id AS refund_id,
    refund.transaction_id,
    refund.amount,
    handout.refund_id IS NOT NULL AS is_handed_out
FROM refund
LEFT JOIN cash_handout AS handout ON refund.booking_id = handout.booking_id AND refund.id = handout.refund_id
WHERE refund.id = %(refund)s AND refund.gateway = 'cash';

-- Those that a counter has handed out: one that waits is as good as one that was never asked for.
-- handed_out_of :many
SELECT
    refund.id AS refund_id,
    refund.transaction_id,
    refund.amount,
    TRUE AS is_handed_out
FROM refund
INNER JOIN cash_handout AS handout ON refund.booking_id = handout.booking_id AND refund.id = handout.refund_id
WHERE refund.transaction_id = %(transaction_id)s AND refund.gateway = 'cash'
ORDER BY refund.id
LIMIT 50;
