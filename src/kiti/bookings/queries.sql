-- open_bookings :execute
INSERT INTO booking (
    id, reference, state, currency, amount, contact_name, contact_email, contact_phone, language,
    created_at, hold_until, hold_expires_at, hold_cap_at
)
SELECT
    new.id,
    new.reference,
    'held' AS state,
    new.currency,
    new.amount,
    new.contact_name,
    new.contact_email,
    new.contact_phone,
    new.language,
    new.held_at,
    new.hold_expires_at AS hold_until,
    new.hold_expires_at,
    new.hold_cap_at
FROM unnest(
    %(ids)s::uuid[], %(references)s::text[], %(currencies)s::text[], %(amounts)s::bigint[],
    %(names)s::text[], %(emails)s::text[], %(phones)s::text[], %(languages)s::text[],
    %(held_ats)s::timestamptz[], %(hold_expires_ats)s::timestamptz[], %(hold_cap_ats)s::timestamptz[]
) AS new (
    id, reference, currency, amount, contact_name, contact_email, contact_phone, language,
    held_at, hold_expires_at, hold_cap_at
);

-- open_references :execute
INSERT INTO booking_reference (reference, booking_id)
SELECT
    new.reference,
    new.booking_id
FROM unnest(%(references)s::text[], %(bookings)s::uuid[]) AS new (reference, booking_id)
ORDER BY new.reference
ON CONFLICT (reference) DO NOTHING;

-- open_seats :execute
INSERT INTO booking_seat (
    booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare, passenger_name
)
SELECT
    new.booking_id,
    new.trip_id,
    new.seat,
    new.from_seq,
    new.to_seq,
    new.position,
    new.operator_id,
    new.class,
    new.fare,
    new.passenger_name
FROM unnest(
    %(bookings)s::uuid[], %(trips)s::uuid[], %(seats)s::text[], %(from_seqs)s::smallint[],
    %(to_seqs)s::smallint[], %(positions)s::smallint[], %(operators)s::uuid[], %(classes)s::text[],
    %(fares)s::bigint[], %(passenger_names)s::text[]
) AS new (booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare, passenger_name);

-- by_id :maybe
SELECT
    id,
    reference,
    state,
    currency,
    amount,
    contact_name,
    contact_email,
    contact_phone,
    language,
    created_at,
    hold_until,
    hold_expires_at,
    hold_cap_at,
    confirmed_at,
    kiti_now() AS now
FROM booking
WHERE id = %(id)s;

-- Locks one booking, so that payments, extensions and sweeps of it take turns.
-- lock_by_id :maybe
SELECT
    id,
    reference,
    state,
    currency,
    amount,
    contact_name,
    contact_email,
    contact_phone,
    language,
    created_at,
    hold_until,
    hold_expires_at,
    hold_cap_at,
    confirmed_at,
    kiti_now() AS now
FROM booking
WHERE id = %(id)s
FOR UPDATE;

-- seats_of :many
SELECT
    booking_id,
    trip_id,
    seat,
    from_seq,
    to_seq,
    operator_id,
    class AS seat_class,
    fare,
    passenger_name
FROM booking_seat
WHERE booking_id = any(%(bookings)s::uuid[])
ORDER BY booking_id, position;

-- by_reference_and_phone :maybe
SELECT booking.id
FROM booking_reference
INNER JOIN booking ON booking_reference.booking_id = booking.id
WHERE booking_reference.reference = %(reference)s AND booking.contact_phone = %(phone)s;

-- move :execute
UPDATE booking SET
    state = %(to_state)s,
    confirmed_at = CASE WHEN %(to_state)s = 'confirmed' THEN kiti_now() ELSE confirmed_at END,
    arrives_at = CASE
        WHEN %(to_state)s = 'confirmed'
            THEN (
                SELECT max(trip_stop.arrives_at)
                FROM booking_seat
                INNER JOIN trip_stop
                    ON booking_seat.trip_id = trip_stop.trip_id AND booking_seat.to_seq = trip_stop.seq
                WHERE booking_seat.booking_id = %(id)s
            )
        ELSE booking.arrives_at
    END
WHERE id = %(id)s AND state = %(from_state)s;

-- set_hold :execute
UPDATE booking SET
    hold_expires_at = %(expires_at)s,
    hold_until = CASE WHEN %(asked)s THEN %(expires_at)s ELSE hold_until END
WHERE id = %(id)s AND state IN ('held', 'awaiting_payment');

-- set_contact :execute
UPDATE booking SET contact_name = %(name)s, contact_email = %(email)s, contact_phone = %(phone)s
WHERE id = %(id)s;

-- set_passenger :execute
UPDATE booking_seat SET passenger_name = %(name)s
WHERE booking_id = %(booking)s AND trip_id = %(trip)s AND seat = %(seat)s;

-- Bookings whose hold is over; those that a payment has locked right now are left for the next sweep.
-- expire_due :many
WITH due AS (
    SELECT id FROM booking
    WHERE state IN ('held', 'awaiting_payment') AND hold_expires_at <= kiti_now()
    ORDER BY hold_expires_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)

UPDATE booking SET state = 'expired'
FROM due
WHERE booking.id = due.id
RETURNING booking.id;

-- Confirmed bookings whose last trip has arrived, by an index that knows nothing but those.
-- complete_arrived :many
WITH arrived AS (
    SELECT id FROM booking
    WHERE state = 'confirmed' AND arrives_at <= kiti_now()
    ORDER BY arrives_at
    LIMIT %(limit)s
    FOR UPDATE SKIP LOCKED
)

UPDATE booking SET state = 'completed'
FROM arrived
WHERE booking.id = arrived.id
RETURNING booking.id;

-- Seat-legs that a confirmed booking should own for ever and does not.
-- confirmed_without_claims :many
SELECT
    booking_seat.booking_id,
    booking_seat.trip_id,
    booking_seat.seat
FROM booking
INNER JOIN booking_seat ON booking.id = booking_seat.booking_id
CROSS JOIN LATERAL generate_series(booking_seat.from_seq, booking_seat.to_seq - 1) AS leg (number)
LEFT JOIN seat_claim
    ON
        booking_seat.trip_id = seat_claim.trip_id
        AND booking_seat.seat = seat_claim.seat
        AND leg.number = seat_claim.leg
        AND booking_seat.booking_id = seat_claim.owner_id
        AND seat_claim.expires_at = 'infinity'
WHERE booking.state IN ('confirmed', 'completed') AND seat_claim.trip_id IS NULL
GROUP BY booking_seat.booking_id, booking_seat.trip_id, booking_seat.seat
ORDER BY booking_seat.booking_id, booking_seat.trip_id, booking_seat.seat
LIMIT 100;

-- Live claims whose owner may not have them: no booking or block at all, or sold to a booking that is not paid.
-- claims_without_owner :many
SELECT
    seat_claim.owner_id AS booking_id,
    seat_claim.trip_id,
    seat_claim.seat
FROM seat_claim
LEFT JOIN booking ON seat_claim.owner_id = booking.id
LEFT JOIN seat_block
    ON seat_claim.trip_id = seat_block.trip_id AND seat_claim.owner_id = seat_block.id AND seat_block.lifted_at IS NULL
WHERE
    seat_claim.expires_at > kiti_now()
    AND seat_block.id IS NULL
    AND (
        booking.id IS NULL
        OR (seat_claim.expires_at = 'infinity' AND booking.state NOT IN ('confirmed', 'completed'))
    )
GROUP BY seat_claim.owner_id, seat_claim.trip_id, seat_claim.seat
ORDER BY seat_claim.owner_id, seat_claim.trip_id, seat_claim.seat
LIMIT 100;
