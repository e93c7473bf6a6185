-- One reservation in one transaction, as a careful team would write it in PostgreSQL itself: the same rows as ours,
-- in one call, with one plan for each statement and nothing that could be left out. Used by pgbench.
CREATE SEQUENCE bench_number MINVALUE 0 START 0 CACHE 1000;

CREATE FUNCTION bench_reserve(trip_no bigint, seat_no integer, reference_no bigint) RETURNS uuid
LANGUAGE plpgsql
AS $$
DECLARE
    wanted_trip uuid := bench_id(0, trip_no);
    wanted_seat text := (seat_no / 4 + 1) || chr(65 + seat_no % 4);
    fresh uuid := uuidv7();
    moment timestamptz := kiti_now();
    until timestamptz := moment + interval '15 minutes';
    alphabet text := 'ABCDEFGHJKMNPQRSTUVWXYZ23456789';
    spoken text := '';
    boards timestamptz;
    got integer;
BEGIN
    SELECT trip_stop.departs_at INTO boards
    FROM trip INNER JOIN trip_stop ON trip.id = trip_stop.trip_id
    WHERE trip.id = wanted_trip AND trip.state = 'scheduled' AND trip_stop.seq = 0;
    IF boards IS NULL OR boards <= moment THEN
        RAISE EXCEPTION 'trip is not on sale';
    END IF;

    INSERT INTO seat_claim AS held (trip_id, seat, leg, owner_id, claimed_at, expires_at)
    VALUES
    (wanted_trip, wanted_seat, 0, fresh, moment, until),
    (wanted_trip, wanted_seat, 1, fresh, moment, until),
    (wanted_trip, wanted_seat, 2, fresh, moment, until)
    ON CONFLICT (trip_id, seat, leg) DO UPDATE
        SET owner_id = excluded.owner_id, claimed_at = excluded.claimed_at, expires_at = excluded.expires_at
        WHERE held.expires_at <= excluded.claimed_at;
    GET DIAGNOSTICS got = ROW_COUNT;
    IF got < 3 THEN
        RAISE EXCEPTION 'seat is taken';
    END IF;

    FOR place IN 1..6 LOOP
        spoken := spoken || substr(alphabet, (reference_no % 31)::integer + 1, 1);
        reference_no := reference_no / 31;
    END LOOP;
    INSERT INTO booking_reference (reference, booking_id) VALUES (spoken, fresh);
    INSERT INTO booking (
        id, reference, state, currency, amount, contact_name, contact_email, contact_phone, language,
        created_at, hold_until, hold_expires_at, hold_cap_at
    )
    VALUES (
        fresh, spoken, 'held', 'UGX', 30000, 'Grace Achieng', 'grace@example.com',
        '+256772' || lpad((reference_no % 1000000)::text, 6, '0'), 'en',
        moment, until, until, moment + interval '60 minutes'
    );
    INSERT INTO booking_seat (
        booking_id, trip_id, seat, from_seq, to_seq, position, operator_id, class, fare, passenger_name
    )
    VALUES (fresh, wanted_trip, wanted_seat, 0, 3, 1, bench_id(1, 1), 'STANDARD', 30000, 'Grace Achieng');
    INSERT INTO audit_event (subject_id, id, at, actor, action, detail)
    VALUES (
        fresh, uuidv7(), moment, 'guest', 'booking.held',
        jsonb_build_object('reference', spoken, 'seats', jsonb_build_array(wanted_seat))
    );
    RETURN fresh;
END;
$$;
