-- put :execute
INSERT INTO booking_fee (booking_id, payment_id, operator_id, kind, borne_by, amount, basis_points)
SELECT
    part.booking_id,
    %(payment)s,
    part.operator_id,
    part.kind,
    part.borne_by,
    part.amount,
    part.basis_points
FROM unnest(
    %(bookings)s::uuid[], %(operators)s::uuid[], %(kinds)s::text[], %(bearers)s::text[], %(amounts)s::bigint[],
    %(basis_points)s::integer[]
) AS part (booking_id, operator_id, kind, borne_by, amount, basis_points);

-- Of each booking the parts of the attempt that has paid for it, else those of the newest.
-- of_bookings :many
SELECT
    fee.booking_id,
    fee.operator_id,
    fee.kind,
    fee.borne_by,
    fee.amount,
    fee.basis_points
FROM booking_fee AS fee
WHERE
    fee.booking_id = any(%(bookings)s::uuid[])
    AND fee.payment_id = coalesce(
        (
            SELECT charge.payment_id FROM charge
            WHERE charge.booking_id = fee.booking_id AND charge.purpose = 'fulfils'
        ),
        (
            SELECT payment.id FROM payment
            WHERE payment.booking_id = fee.booking_id
            ORDER BY payment.id DESC
            LIMIT 1
        )
    )
ORDER BY fee.booking_id, fee.operator_id, fee.kind, fee.borne_by;

-- of_payments :many
SELECT
    payment_id,
    booking_id,
    operator_id,
    kind,
    borne_by,
    amount,
    basis_points
FROM booking_fee
WHERE booking_id = any(%(bookings)s::uuid[]) AND payment_id = any(%(payments)s::uuid[])
ORDER BY booking_id, payment_id, operator_id, kind, borne_by;

-- Those that count now, will, or did within the last day: no hold lasts as long.
-- rules :many
SELECT
    id,
    operator_id,
    kind,
    borne_by,
    currency,
    method,
    basis_points,
    fixed,
    minimum,
    maximum,
    per,
    valid_from,
    valid_until
FROM fee_rule
WHERE valid_until IS NULL OR valid_until > kiti_now() - interval '1 day'
ORDER BY kind, currency, operator_id NULLS FIRST, method NULLS FIRST, valid_from, id;

-- listed :many
SELECT
    coalesce(operator.code, '') AS operator,
    fee_rule.id,
    fee_rule.operator_id,
    fee_rule.kind,
    fee_rule.borne_by,
    fee_rule.currency,
    fee_rule.method,
    fee_rule.basis_points,
    fee_rule.fixed,
    fee_rule.minimum,
    fee_rule.maximum,
    fee_rule.per,
    fee_rule.valid_from,
    fee_rule.valid_until
FROM fee_rule
LEFT JOIN operator ON fee_rule.operator_id = operator.id
ORDER BY coalesce(operator.code, ''), fee_rule.kind, fee_rule.currency, fee_rule.method NULLS FIRST, fee_rule.valid_from
LIMIT 1000;

-- take_turns :execute
SELECT pg_advisory_xact_lock(hashtext('kiti.fees'));

-- The rule of this sort that goes on, if there is one.
-- going_on :maybe
SELECT
    id,
    operator_id,
    kind,
    borne_by,
    currency,
    method,
    basis_points,
    fixed,
    minimum,
    maximum,
    per,
    valid_from,
    valid_until
FROM fee_rule
WHERE
    kind = %(kind)s AND currency = %(currency)s AND valid_until IS NULL
    AND operator_id IS NOT DISTINCT FROM %(operator)s::uuid AND method IS NOT DISTINCT FROM %(method)s::text;

-- add :execute
INSERT INTO fee_rule (
    id, operator_id, kind, borne_by, currency, method, basis_points, fixed, minimum, maximum, per, valid_from,
    valid_until
)
VALUES (
    %(id)s, %(operator)s, %(kind)s, %(borne_by)s, %(currency)s, %(method)s, %(basis_points)s, %(fixed)s, %(minimum)s,
    %(maximum)s, %(per)s, %(valid_from)s, %(valid_until)s
);

-- finish :execute
UPDATE fee_rule SET valid_until = greatest(valid_from, %(at)s)
WHERE id = %(id)s AND (valid_until IS NULL OR valid_until > greatest(valid_from, %(at)s));

-- clock :one
SELECT kiti_now() AS now;
