-- Bookings of one moment: what their claims were told by the database's clock.
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
    %(held_at)s::timestamptz AS created_at,
    %(held_at)s::timestamptz + new.hold_seconds * interval '1 second' AS hold_until,
    %(held_at)s::timestamptz + new.hold_seconds * interval '1 second' AS hold_expires_at,
    %(held_at)s::timestamptz + %(cap_seconds)s::integer * interval '1 second' AS hold_cap_at
FROM unnest(
    %(ids)s::uuid[], %(references)s::text[], %(currencies)s::text[], %(amounts)s::bigint[],
    %(names)s::text[], %(emails)s::text[], %(phones)s::text[], %(languages)s::text[], %(hold_seconds)s::integer[]
) AS new (id, reference, currency, amount, contact_name, contact_email, contact_phone, language, hold_seconds);

-- taken_references :many
SELECT reference FROM booking_reference
WHERE reference = any(%(references)s::text[]);

-- A reference that exists is refused by the primary key.
-- open_references :execute
INSERT INTO booking_reference (reference, booking_id)
SELECT
    new.reference,
    new.booking_id
FROM unnest(%(references)s::text[], %(bookings)s::uuid[]) AS new (reference, booking_id)
ORDER BY new.reference;

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

-- Locks many, in the order of their ids as everybody does who locks more than one.
-- lock_many :many
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
WHERE id = any(%(ids)s::uuid[])
ORDER BY id
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

-- cancelled_seats :many
SELECT
    booking_id,
    trip_id,
    seat,
    from_seq,
    to_seq,
    operator_id,
    class AS seat_class,
    fare,
    passenger_name,
    percent,
    fee,
    refunded,
    cancelled_at
FROM cancelled_seat
WHERE booking_id = %(booking)s
ORDER BY cancelled_at, position;

-- Those who travel and those who do not any more.
-- every_seat_of :many
SELECT
    booking_id,
    trip_id,
    seat,
    operator_id,
    fare
FROM every_seat
WHERE booking_id = any(%(bookings)s)
ORDER BY booking_id, trip_id, seat;

-- operators_of :many
SELECT DISTINCT operator_id AS id FROM every_seat
WHERE booking_id = %(booking)s;

-- Moves lines from those who travel to those who do not, each with what was given back for it.
-- cancel_lines :many
WITH gone AS (
    DELETE FROM booking_seat
    USING
        unnest(
            %(ids)s::uuid[], %(trips)s::uuid[], %(seats)s::text[], %(percents)s::smallint[], %(fees)s::bigint[],
            %(refunded)s::bigint[]
        ) AS old (id, trip_id, seat, percent, fee, refunded)
    WHERE
        booking_seat.booking_id = %(booking)s
        AND booking_seat.trip_id = old.trip_id
        AND booking_seat.seat = old.seat
    RETURNING
        booking_seat.booking_id,
        old.id,
        booking_seat.trip_id,
        booking_seat.seat,
        booking_seat.from_seq,
        booking_seat.to_seq,
        booking_seat.position,
        booking_seat.operator_id,
        booking_seat.class,
        booking_seat.fare,
        booking_seat.passenger_name,
        old.percent,
        old.fee,
        old.refunded
)

INSERT INTO cancelled_seat (
    booking_id, id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare, passenger_name, percent, fee,
    refunded, cancelled_at
)
SELECT
    booking_id,
    id,
    trip_id,
    seat,
    from_seq,
    to_seq,
    position,
    operator_id,
    class,
    fare,
    passenger_name,
    percent,
    fee,
    refunded,
    kiti_now() AS cancelled_at
FROM gone
RETURNING id;

-- note_replacements :execute
INSERT INTO seat_replacement (booking_id, trip_id, lost_seat, seat, made_at, decline_until)
SELECT
    %(booking)s,
    new.trip_id,
    new.lost_seat,
    new.seat,
    kiti_now() AS made_at,
    %(decline_until)s
FROM unnest(%(trips)s::uuid[], %(lost_seats)s::text[], %(seats)s::text[]) AS new (trip_id, lost_seat, seat);

-- replacements :many
SELECT
    trip_id,
    lost_seat,
    seat,
    decline_until
FROM seat_replacement
WHERE booking_id = %(booking)s
ORDER BY trip_id, lost_seat;

-- by_reference_and_phone :maybe
SELECT booking.id
FROM booking_reference
INNER JOIN booking ON booking_reference.booking_id = booking.id
WHERE booking_reference.reference = %(reference)s AND booking.contact_phone = %(phone)s;

-- move :many
UPDATE booking SET
    state = %(to_state)s::text,
    confirmed_at = CASE WHEN %(to_state)s::text = 'confirmed' THEN kiti_now() ELSE booking.confirmed_at END,
    arrives_at = CASE
        WHEN %(to_state)s::text = 'confirmed'
            THEN (
                SELECT max(trip_stop.arrives_at)
                FROM booking_seat
                INNER JOIN trip_stop
                    ON booking_seat.trip_id = trip_stop.trip_id AND booking_seat.to_seq = trip_stop.seq
                WHERE booking_seat.booking_id = booking.id
            )
        ELSE booking.arrives_at
    END
FROM unnest(%(ids)s::uuid[], %(from_states)s::text[]) AS moved (id, from_state)
WHERE booking.id = moved.id AND booking.state = moved.from_state
RETURNING booking.id;

-- set_holds :many
UPDATE booking SET
    hold_expires_at = hold.expires_at,
    hold_until = CASE WHEN %(asked)s::boolean THEN hold.expires_at ELSE booking.hold_until END
FROM unnest(%(ids)s::uuid[], %(expires_ats)s::timestamptz[]) AS hold (id, expires_at)
WHERE booking.id = hold.id AND booking.state IN ('held', 'awaiting_payment')
RETURNING booking.id;

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
    LIMIT %(limit)s::integer
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
    LIMIT %(limit)s::integer
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
WHERE
    booking.state IN ('confirmed', 'completed') AND seat_claim.trip_id IS NULL
    -- A trip that was cancelled and given back has no seats any more.
    AND NOT EXISTS (
        SELECT 1 FROM trip_refund
        WHERE trip_refund.booking_id = booking_seat.booking_id AND trip_refund.trip_id = booking_seat.trip_id
    )
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

-- take_lines :many
DELETE FROM booking_seat
USING unnest(%(trips)s::uuid[], %(seats)s::text[]) AS old (trip_id, seat)
WHERE
    booking_seat.booking_id = %(booking)s
    AND booking_seat.trip_id = old.trip_id
    AND booking_seat.seat = old.seat
RETURNING booking_seat.trip_id, booking_seat.seat, booking_seat.position;

-- put_lines :execute
INSERT INTO booking_seat (
    booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare, passenger_name
)
SELECT
    %(booking)s AS booking_id,
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
    %(trips)s::uuid[], %(seats)s::text[], %(from_seqs)s::smallint[], %(to_seqs)s::smallint[],
    %(positions)s::smallint[], %(operators)s::uuid[], %(classes)s::text[], %(fares)s::bigint[],
    %(passenger_names)s::text[]
) AS new (trip_id, seat, from_seq, to_seq, position, operator_id, class, fare, passenger_name);

-- When the last trip of a confirmed booking arrives, after its trips have changed.
-- renew_arrival :execute
UPDATE booking SET
    arrives_at = (
        SELECT max(trip_stop.arrives_at)
        FROM booking_seat
        INNER JOIN trip_stop
            ON booking_seat.trip_id = trip_stop.trip_id AND booking_seat.to_seq = trip_stop.seq
        WHERE booking_seat.booking_id = %(id)s
    )
WHERE id = %(id)s AND state = 'confirmed';

-- by_reference :maybe
SELECT booking_id AS id
FROM booking_reference
WHERE reference = %(reference)s;

-- Whose claims these are, for people to read.
-- names_of :many
SELECT
    id,
    reference,
    state
FROM booking
WHERE id = any(%(bookings)s::uuid[])
ORDER BY id;

-- Bookings with seats on a trip that are paid for, or may yet be, after a place in the order of their ids.
-- on_trip :many
SELECT DISTINCT booking.id
FROM booking_seat
INNER JOIN booking ON booking_seat.booking_id = booking.id
WHERE
    booking_seat.trip_id = %(trip)s
    AND booking.state IN ('held', 'awaiting_payment', 'confirmed')
    AND booking.id > %(after)s
ORDER BY booking.id
LIMIT %(limit)s;

-- Bookings that were paid for and have boarded a trip, whose part in it is not in the ledger as revenue; behind a place
-- in the order of their ids. What a cancelled one has not given back counts too. Where the trip was cancelled nobody
-- has boarded, and who is still to get their fares back waits for that.
-- boarded_unrecognised :many
SELECT every_seat.booking_id AS id
FROM every_seat
INNER JOIN booking ON every_seat.booking_id = booking.id
INNER JOIN trip_stop ON every_seat.trip_id = trip_stop.trip_id AND every_seat.from_seq = trip_stop.seq
WHERE
    every_seat.trip_id = %(trip)s
    AND every_seat.booking_id > %(after)s
    AND booking.state IN ('confirmed', 'completed', 'cancelled')
    AND booking.confirmed_at IS NOT NULL
    AND (
        booking.state = 'cancelled'
        OR EXISTS (
            SELECT 1 FROM trip
            WHERE trip.id = every_seat.trip_id AND trip.state = 'scheduled'
        )
        OR NOT EXISTS (
            SELECT 1 FROM booking_seat
            WHERE booking_seat.booking_id = every_seat.booking_id AND booking_seat.trip_id = every_seat.trip_id
        )
        OR EXISTS (
            SELECT 1 FROM trip_refund
            WHERE trip_refund.booking_id = every_seat.booking_id AND trip_refund.trip_id = every_seat.trip_id
        )
    )
    AND NOT EXISTS (
        SELECT 1 FROM undecided_trip
        WHERE undecided_trip.booking_id = every_seat.booking_id AND undecided_trip.trip_id = every_seat.trip_id
    )
    AND NOT EXISTS (
        SELECT 1 FROM transfer
        WHERE
            transfer.booking_id = every_seat.booking_id
            AND transfer.event = 'departed:' || every_seat.trip_id
            AND transfer.line = 1
    )
GROUP BY every_seat.booking_id
HAVING max(trip_stop.departs_at) <= kiti_now()
ORDER BY every_seat.booking_id
LIMIT %(limit)s;

-- Bookings of a span of ids, which is one of time, that hold seats for a while still and were not written to about it.
-- unreminded :many
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
WHERE
    id >= %(first)s AND id < %(last)s
    AND state IN ('held', 'awaiting_payment')
    AND hold_expires_at > kiti_now() + interval '1 minute'
    AND (contact_email <> '' OR contact_phone <> '')
    AND NOT EXISTS (
        SELECT 1 FROM message
        WHERE message.booking_id = booking.id AND message.event = 'held'
    )
ORDER BY id
LIMIT %(limit)s;
