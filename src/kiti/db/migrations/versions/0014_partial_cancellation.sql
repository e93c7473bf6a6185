-- What was cancelled of a booking whose other seats travel on. `booking_seat` is who travels still: a line that was
-- cancelled moves here, so that nobody who reads the one has to think of the other. Where the last lines are cancelled
-- the booking is, and these stay where they are.
CREATE TABLE cancelled_seat (
    booking_id uuid NOT NULL REFERENCES booking (id),
    id uuid NOT NULL,
    trip_id uuid NOT NULL,
    seat text NOT NULL,
    from_seq smallint NOT NULL,
    to_seq smallint NOT NULL,
    position smallint NOT NULL,
    operator_id uuid NOT NULL,
    class text NOT NULL,
    fare bigint NOT NULL CHECK (fare > 0),
    passenger_name text NOT NULL,
    percent smallint NOT NULL CHECK (percent BETWEEN 0 AND 100), -- of the refundable part of the fare
    fee bigint NOT NULL CHECK (fee >= 0), -- what was kept of that
    refunded bigint NOT NULL CHECK (refunded >= 0), -- what the rules gave back of fare and tax; the rest stays
    cancelled_at timestamptz NOT NULL,
    PRIMARY KEY (booking_id, id)
);

-- Every seat that a booking was ever paid for: whose money it is, whoever travels.
CREATE VIEW every_seat AS
SELECT
    booking_id,
    trip_id,
    seat,
    from_seq,
    operator_id,
    fare
FROM booking_seat
UNION ALL
SELECT
    booking_id,
    trip_id,
    seat,
    from_seq,
    operator_id,
    fare
FROM cancelled_seat;

CREATE INDEX cancelled_seat_trip ON cancelled_seat (trip_id, booking_id);

-- What an operator keeps: 'seat' of each seat, 'cancellation' once however many seats it is, and 'kept' is the part of
-- each fare that never goes back.
ALTER TABLE refund_fee ADD COLUMN kind text NOT NULL DEFAULT 'seat' CHECK (kind IN ('seat', 'cancellation', 'kept'));
ALTER TABLE refund_fee DROP CONSTRAINT refund_fee_pkey;
ALTER TABLE refund_fee ADD PRIMARY KEY (operator_id, kind, currency);

-- What came beyond what was due is not the fare: each goes back from its own part of the charge.
ALTER TABLE charge ADD COLUMN excess_reserved bigint NOT NULL DEFAULT 0;
ALTER TABLE charge ADD CONSTRAINT charge_excess_reserved_check CHECK (excess_reserved BETWEEN 0 AND refund_reserved);
-- Until now it went back with the cancellation of its booking.
UPDATE charge SET excess_reserved = least(charge.refund_reserved, charge.amount - booking.amount)
FROM booking
WHERE
    charge.booking_id = booking.id
    AND booking.state = 'cancelled'
    AND charge.purpose = 'fulfils'
    AND charge.amount > booking.amount;

-- Whether late money may buy other seats than those that somebody else has taken meanwhile.
ALTER TABLE operator ADD COLUMN replaces_lost_seats boolean NOT NULL DEFAULT FALSE;

-- Seats that a booking got in the place of lost ones. Until `decline_until` its holder may have all money back.
CREATE TABLE seat_replacement (
    booking_id uuid NOT NULL REFERENCES booking (id),
    trip_id uuid NOT NULL,
    lost_seat text NOT NULL,
    seat text NOT NULL,
    made_at timestamptz NOT NULL,
    decline_until timestamptz NOT NULL,
    PRIMARY KEY (booking_id, trip_id, lost_seat)
);

-- What a person has made of a break; such a one is not opened again by a later comparison.
ALTER TABLE reconciliation_break ADD COLUMN resolution text CHECK (length(resolution) BETWEEN 1 AND 400);
