-- A trip that its operator cancels gives every booking its fares back, once, however often the job runs: the row is
-- written in the transaction that asks for the refund. No refund: there was nothing to give back.
CREATE TABLE trip_refund (
    booking_id uuid NOT NULL REFERENCES booking (id),
    trip_id uuid NOT NULL,
    refund_id uuid,
    made_at timestamptz NOT NULL,
    PRIMARY KEY (booking_id, trip_id)
);
CREATE INDEX booking_seat_trip ON booking_seat (trip_id, booking_id);
CREATE INDEX trip_cancelled ON trip (id) WHERE state = 'cancelled';
