-- What a team without Kiti would have: one row of inventory for each seat and leg, bookings, their seats, an audit log.
CREATE SCHEMA baseline;

CREATE TABLE baseline.trip (
    id uuid PRIMARY KEY,
    status text NOT NULL,
    departs_at timestamptz NOT NULL,
    fare bigint NOT NULL,
    currency char(3) NOT NULL
);

CREATE TABLE baseline.seat_leg (
    trip_id uuid NOT NULL REFERENCES baseline.trip (id),
    seat text NOT NULL,
    leg smallint NOT NULL,
    status text NOT NULL DEFAULT 'available',
    booking_id uuid,
    held_until timestamptz,
    PRIMARY KEY (trip_id, seat, leg)
) WITH (fillfactor = 80);

CREATE TABLE baseline.booking (
    id uuid PRIMARY KEY,
    reference text NOT NULL UNIQUE,
    status text NOT NULL,
    amount bigint NOT NULL,
    currency char(3) NOT NULL,
    contact_name text NOT NULL,
    contact_email text NOT NULL,
    contact_phone text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL
);

CREATE TABLE baseline.booking_seat (
    booking_id uuid NOT NULL REFERENCES baseline.booking (id),
    trip_id uuid NOT NULL,
    seat text NOT NULL,
    from_seq smallint NOT NULL,
    to_seq smallint NOT NULL,
    fare bigint NOT NULL,
    passenger_name text NOT NULL,
    PRIMARY KEY (booking_id, trip_id, seat)
);

CREATE TABLE baseline.audit_log (
    id uuid PRIMARY KEY,
    booking_id uuid NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    detail jsonb NOT NULL
);

INSERT INTO baseline.trip (id, status, departs_at, fare, currency)
SELECT id, state, departs_at, 30000, 'UGX' FROM trip;

INSERT INTO baseline.seat_leg (trip_id, seat, leg)
SELECT trip.id, layout_seat.number, leg.leg
FROM trip
INNER JOIN layout_seat ON trip.layout_id = layout_seat.layout_id
CROSS JOIN generate_series(0, 2) AS leg (leg);
