-- A synthetic network, set-based. Parameters: routes, departures (of a route a day), days, stops (of a route), and rows
-- of four seats. Trips are numbered from 1, and trip n has the id
-- 00000000-0000-7000-8000-<n in 12 hex digits>, so that load generators can name them without asking.
CREATE FUNCTION bench_id(kind integer, n bigint) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT ('0000000' || kind || '-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid $$;

CREATE FUNCTION bench_network(
    routes integer, departures integer, days integer, stops integer, seat_rows integer
) RETURNS bigint
LANGUAGE plpgsql
AS $$
DECLARE
    tomorrow date := current_date + 2;
    trips bigint;
BEGIN
    INSERT INTO operator (id, code, name, country, timezone)
    VALUES (bench_id(1, 1), 'bench', 'Bench Coaches', 'UG', 'UTC');

    -- Every route has stops of its own between the two that all share, so that a pair of stops can be busy or not.
    INSERT INTO stop (id, code, name, city, country, latitude, longitude, timezone, search_key)
    SELECT bench_id(2, s), 'S' || s, 'Stop ' || s, 'City ' || s, 'UG', 0, 32, 'UTC', 'stop ' || s || ' | city ' || s
    FROM generate_series(0, routes * (stops - 1)) AS s;

    INSERT INTO layout (id, operator_id, name, seat_count)
    VALUES (bench_id(3, 1), bench_id(1, 1), 'Coach', seat_rows * 4);
    INSERT INTO layout_seat (
        layout_id, number, deck, row_index, column_index, class, is_window, is_aisle, is_accessible
    )
    SELECT
        bench_id(3, 1), r || chr(64 + c), 1, r, CASE WHEN c > 2 THEN c + 1 ELSE c END, 'STANDARD',
        c IN (1, 4), c IN (2, 3), r = 1
    FROM generate_series(1, seat_rows) AS r CROSS JOIN generate_series(1, 4) AS c;

    INSERT INTO vehicle (id, operator_id, layout_id, kind, name, registration)
    VALUES (bench_id(4, 1), bench_id(1, 1), bench_id(3, 1), 'bus', 'Coach', 'BENCH 1');

    INSERT INTO route (id, operator_id, code, name)
    SELECT bench_id(5, r), bench_id(1, 1), 'R' || r, 'Route ' || r FROM generate_series(1, routes) AS r;
    -- Stop 0 is where all routes begin.
    INSERT INTO route_stop (route_id, seq, stop_id, arrives_after_minutes, departs_after_minutes)
    SELECT
        bench_id(5, r), s, bench_id(2, CASE WHEN s = 0 THEN 0 ELSE (r - 1) * (stops - 1) + s END), s * 60, s * 60
    FROM generate_series(1, routes) AS r CROSS JOIN generate_series(0, stops - 1) AS s;
    INSERT INTO fare (route_id, from_seq, to_seq, class, amount, currency)
    SELECT bench_id(5, r), a, b, 'STANDARD', 10000 * (b - a), 'UGX'
    FROM generate_series(1, routes) AS r
    CROSS JOIN generate_series(0, stops - 1) AS a
    CROSS JOIN generate_series(0, stops - 1) AS b
    WHERE a < b;

    INSERT INTO schedule (
        id, operator_id, route_id, vehicle_id, departs_local, weekdays, valid_from, valid_until
    )
    SELECT
        bench_id(6, (r - 1) * departures + d), bench_id(1, 1), bench_id(5, r), bench_id(4, 1),
        time '00:00' + (d - 1) * interval '1 day' / departures, 127, tomorrow, tomorrow + days
    FROM generate_series(1, routes) AS r CROSS JOIN generate_series(1, departures) AS d;

    INSERT INTO trip (
        id, schedule_id, service_date, operator_id, route_id, vehicle_id, layout_id, departs_at, arrives_at
    )
    SELECT
        bench_id(0, n + 1),
        bench_id(6, n % (routes * departures) + 1),
        tomorrow + (n / (routes * departures))::integer,
        bench_id(1, 1),
        bench_id(5, n % (routes * departures) / departures + 1),
        bench_id(4, 1),
        bench_id(3, 1),
        at.departs,
        at.departs + (stops - 1) * interval '1 hour'
    FROM generate_series(0, routes::bigint * departures * days - 1) AS n
    CROSS JOIN LATERAL (
        SELECT
            (tomorrow + (n / (routes * departures))::integer)::timestamp AT TIME ZONE 'UTC'
            + n % departures * interval '1 day' / departures AS departs
    ) AS at;
    GET DIAGNOSTICS trips = ROW_COUNT;

    INSERT INTO trip_stop (trip_id, seq, route_id, stop_id, arrives_at, departs_at, local_date)
    SELECT
        trip.id, call.seq, trip.route_id, call.stop_id, at.leaves, at.leaves, (at.leaves AT TIME ZONE 'UTC')::date
    FROM trip
    INNER JOIN route_stop AS call ON trip.route_id = call.route_id
    CROSS JOIN LATERAL (
        SELECT trip.departs_at + call.departs_after_minutes * interval '1 minute' AS leaves
    ) AS at;
    RETURN trips;
END;
$$;
