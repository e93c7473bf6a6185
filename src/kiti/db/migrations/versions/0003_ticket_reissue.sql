-- A seat that was changed has a void ticket and may get another one; of those that are not void there is one a seat.
ALTER TABLE ticket DROP CONSTRAINT ticket_booking_id_trip_id_seat_key;
CREATE UNIQUE INDEX ticket_one_good ON ticket (booking_id, trip_id, seat) WHERE state <> 'void';
