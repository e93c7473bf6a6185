-- signing_keys :many
SELECT
    kid,
    public_key,
    private_key
FROM ticket_key
ORDER BY created_at DESC, kid DESC
LIMIT 100;

-- serialise_key_making :execute
SELECT pg_advisory_xact_lock(hashtext('kiti ticket key'));

-- add_key :execute
INSERT INTO ticket_key (kid, public_key, private_key, created_at)
VALUES (%(kid)s, %(public_key)s, %(private_key)s, clock_timestamp());

-- public_keys :many
SELECT
    kid,
    public_key
FROM ticket_key
ORDER BY created_at DESC, kid DESC
LIMIT 100;

-- seats_to_ticket :many
SELECT
    booking_seat.booking_id,
    booking_seat.trip_id,
    booking_seat.seat,
    booking_seat.passenger_name,
    from_stop.code AS from_code,
    to_stop.code AS to_code,
    from_call.departs_at
FROM booking
INNER JOIN booking_seat ON booking.id = booking_seat.booking_id
INNER JOIN trip_stop AS from_call
    ON booking_seat.trip_id = from_call.trip_id AND booking_seat.from_seq = from_call.seq
INNER JOIN stop AS from_stop ON from_call.stop_id = from_stop.id
INNER JOIN trip_stop AS to_call
    ON booking_seat.trip_id = to_call.trip_id AND booking_seat.to_seq = to_call.seq
INNER JOIN stop AS to_stop ON to_call.stop_id = to_stop.id
WHERE booking.id = any(%(bookings)s::uuid[]) AND booking.state IN ('confirmed', 'completed')
ORDER BY booking_seat.booking_id, booking_seat.trip_id, booking_seat.seat;

-- issue :execute
INSERT INTO ticket (booking_id, id, trip_id, seat, state, token, issued_at)
SELECT
    made.booking_id,
    made.id,
    made.trip_id,
    made.seat,
    'valid' AS state,
    made.token,
    kiti_now() AS issued_at
FROM
    unnest(%(bookings)s::uuid[], %(ids)s::uuid[], %(trips)s::uuid[], %(seats)s::text[], %(tokens)s::text[])
        AS made (booking_id, id, trip_id, seat, token)
ON CONFLICT (booking_id, trip_id, seat) WHERE state <> 'void' DO NOTHING;

-- mark_used :maybe
UPDATE ticket SET state = 'used', used_at = kiti_now(), used_where = %(place)s
WHERE booking_id = %(booking)s AND id = %(ticket)s AND state = 'valid'
RETURNING booking_id, id, trip_id, seat, state, token, issued_at, used_at, used_where, void_reason;

-- void :many
UPDATE ticket SET state = 'void', void_reason = %(reason)s
WHERE booking_id = %(booking)s AND (%(trip)s::uuid IS NULL OR trip_id = %(trip)s) AND state = 'valid'
RETURNING booking_id, id, trip_id, seat, state, token, issued_at, used_at, used_where, void_reason;

-- void_seats :many
UPDATE ticket SET state = 'void', void_reason = %(reason)s
WHERE booking_id = %(booking)s AND trip_id = %(trip)s AND seat = any(%(seats)s::text[]) AND state = 'valid'
RETURNING booking_id, id, trip_id, seat, state, token, issued_at, used_at, used_where, void_reason;

-- boarded :many
SELECT seat
FROM ticket
WHERE booking_id = %(booking)s AND trip_id = %(trip)s AND seat = any(%(seats)s::text[]) AND state = 'used'
ORDER BY seat;

-- tickets_of_booking :many
SELECT
    ticket.booking_id,
    ticket.id,
    ticket.trip_id,
    ticket.seat,
    ticket.state,
    ticket.token,
    ticket.issued_at,
    ticket.used_at,
    ticket.used_where,
    ticket.void_reason
FROM ticket
LEFT JOIN booking_seat
    ON
        ticket.booking_id = booking_seat.booking_id
        AND ticket.trip_id = booking_seat.trip_id
        AND ticket.seat = booking_seat.seat
WHERE ticket.booking_id = %(booking)s
ORDER BY booking_seat.position ASC, ticket.trip_id ASC, ticket.seat ASC, ticket.issued_at DESC
LIMIT 500;

-- ticket :maybe
SELECT
    booking_id,
    id,
    trip_id,
    seat,
    state,
    token,
    issued_at,
    used_at,
    used_where,
    void_reason
FROM ticket
WHERE booking_id = %(booking)s AND id = %(ticket)s;

-- ticket_by_code :maybe
SELECT
    ticket.booking_id,
    ticket.id,
    ticket.trip_id,
    ticket.seat,
    ticket.state,
    ticket.token,
    ticket.issued_at,
    ticket.used_at,
    ticket.used_where,
    ticket.void_reason
FROM booking_reference
INNER JOIN ticket ON booking_reference.booking_id = ticket.booking_id
INNER JOIN trip ON ticket.trip_id = trip.id
WHERE booking_reference.reference = %(reference)s AND ticket.seat = %(seat)s
-- A return journey may have the same seat twice: the inspector's own trip goes first, else the one nearest to now.
-- A seat that was changed and changed back has several tickets, and one at most is not void.
ORDER BY
    coalesce(ticket.trip_id = %(trip)s::uuid, FALSE) DESC,
    ticket.state = 'void' ASC,
    abs(extract(EPOCH FROM trip.departs_at - kiti_now())) ASC,
    ticket.trip_id ASC,
    ticket.issued_at DESC
LIMIT 1;

-- pages :many
SELECT
    ticket.booking_id,
    ticket.id,
    booking.reference,
    booking.language,
    ticket.trip_id,
    ticket.seat,
    booking_seat.class AS seat_class,
    coalesce(layout_seat.deck, 1) AS deck,
    (
        SELECT coalesce(max(place.deck), 1) FROM layout_seat AS place
        WHERE place.layout_id = trip.layout_id
    ) AS deck_count,
    booking_seat.passenger_name,
    ticket.state,
    ticket.token,
    ticket.issued_at,
    ticket.used_at,
    ticket.used_where,
    ticket.void_reason,
    operator.name AS operator_name,
    operator.support_phone,
    route.code AS route_code,
    route.name AS route_name,
    from_stop.code AS from_code,
    from_stop.name AS from_name,
    from_stop.city AS from_city,
    from_stop.timezone AS from_timezone,
    from_call.departs_at,
    to_stop.code AS to_code,
    to_stop.name AS to_name,
    to_stop.city AS to_city,
    to_stop.timezone AS to_timezone,
    to_call.arrives_at,
    vehicle.kind AS vehicle_kind,
    vehicle.name AS vehicle_name,
    vehicle.registration AS vehicle_registration,
    booking_seat.fare,
    booking.currency
FROM ticket
INNER JOIN booking ON ticket.booking_id = booking.id
INNER JOIN booking_seat
    ON
        ticket.booking_id = booking_seat.booking_id
        AND ticket.trip_id = booking_seat.trip_id
        AND ticket.seat = booking_seat.seat
INNER JOIN trip ON ticket.trip_id = trip.id
INNER JOIN operator ON trip.operator_id = operator.id
INNER JOIN route ON trip.route_id = route.id
INNER JOIN vehicle ON trip.vehicle_id = vehicle.id
LEFT JOIN layout_seat ON trip.layout_id = layout_seat.layout_id AND ticket.seat = layout_seat.number
INNER JOIN trip_stop AS from_call
    ON booking_seat.trip_id = from_call.trip_id AND booking_seat.from_seq = from_call.seq
INNER JOIN stop AS from_stop ON from_call.stop_id = from_stop.id
INNER JOIN trip_stop AS to_call
    ON booking_seat.trip_id = to_call.trip_id AND booking_seat.to_seq = to_call.seq
INNER JOIN stop AS to_stop ON to_call.stop_id = to_stop.id
WHERE
    ticket.booking_id = %(booking)s
    AND (%(ticket)s::uuid IS NULL OR ticket.id = %(ticket)s)
    -- One that was replaced by another for the same seat is past.
    AND NOT EXISTS (
        SELECT 1 FROM ticket AS newer
        WHERE
            newer.booking_id = ticket.booking_id
            AND newer.trip_id = ticket.trip_id
            AND newer.seat = ticket.seat
            AND newer.issued_at > ticket.issued_at
    )
ORDER BY from_call.departs_at, booking_seat.position, ticket.seat
LIMIT 500;
