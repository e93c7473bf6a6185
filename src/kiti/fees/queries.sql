-- drop :execute
DELETE FROM booking_fee
WHERE booking_id = %(booking)s;

-- put :execute
INSERT INTO booking_fee (booking_id, operator_id, kind, borne_by, amount)
SELECT
    part.booking_id,
    part.operator_id,
    part.kind,
    part.borne_by,
    part.amount
FROM unnest(
    %(bookings)s::uuid[], %(operators)s::uuid[], %(kinds)s::text[], %(bearers)s::text[], %(amounts)s::bigint[]
) AS part (booking_id, operator_id, kind, borne_by, amount);

-- of_bookings :many
SELECT
    booking_id,
    operator_id,
    kind,
    borne_by,
    amount
FROM booking_fee
WHERE booking_id = any(%(bookings)s)
ORDER BY booking_id, operator_id, kind, borne_by;
