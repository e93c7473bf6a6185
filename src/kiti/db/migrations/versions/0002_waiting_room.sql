-- A door before one trip or several. Places are given out by one UPDATE of this row: that is the order of the line.
CREATE TABLE waiting_room (
    id uuid PRIMARY KEY,
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    rate_per_second double precision NOT NULL CHECK (rate_per_second > 0 AND rate_per_second <= 10000),
    burst integer NOT NULL CHECK (burst BETWEEN 1 AND 100000),
    window_seconds integer NOT NULL CHECK (window_seconds BETWEEN 60 AND 86400),
    next_number bigint NOT NULL CHECK (next_number >= 1),
    next_admission timestamptz NOT NULL, -- of the place next_number, unless time has overtaken it
    opens_at timestamptz NOT NULL, -- nobody is admitted before
    closed_at timestamptz,
    created_at timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Trips that are behind a door now, each behind one. When a room closes its rows go; the audit log remembers them.
CREATE TABLE waiting_room_trip (
    trip_id uuid PRIMARY KEY REFERENCES trip (id),
    room_id uuid NOT NULL REFERENCES waiting_room (id)
);
CREATE INDEX waiting_room_trip_room ON waiting_room_trip (room_id);

-- A place is a sealed token, stored nowhere. This is what was done with it, once it was used at all.
CREATE TABLE waiting_place_use (
    room_id uuid NOT NULL REFERENCES waiting_room (id),
    number bigint NOT NULL,
    uses integer NOT NULL CHECK (uses >= 1),
    booking_id uuid, -- what was booked with it, or what it was changed for
    PRIMARY KEY (room_id, number)
) WITH (fillfactor = 80);
