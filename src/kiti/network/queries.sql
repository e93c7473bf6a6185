-- put_operator :execute
INSERT INTO operator (id, code, name, country, timezone, support_phone)
VALUES (%(id)s, %(code)s, %(name)s, %(country)s, %(timezone)s, %(support_phone)s)
ON CONFLICT (id) DO UPDATE
    SET
        code = excluded.code, name = excluded.name, country = excluded.country,
        timezone = excluded.timezone, support_phone = excluded.support_phone;

-- put_stop :execute
INSERT INTO stop (id, code, name, city, country, latitude, longitude, timezone, search_key)
VALUES (
    %(id)s, %(code)s, %(name)s, %(city)s, %(country)s, %(latitude)s, %(longitude)s, %(timezone)s, %(search_key)s
)
ON CONFLICT (id) DO UPDATE
    SET
        code = excluded.code, name = excluded.name, city = excluded.city, country = excluded.country,
        latitude = excluded.latitude, longitude = excluded.longitude, timezone = excluded.timezone,
        search_key = excluded.search_key;

-- put_layout :execute
INSERT INTO layout (id, operator_id, name, seat_count)
VALUES (%(id)s, %(operator_id)s, %(name)s, %(seat_count)s)
ON CONFLICT (id) DO UPDATE SET name = excluded.name;

-- insert_seats :execute
INSERT INTO layout_seat (
    layout_id, number, deck, row_index, column_index, class, is_window, is_aisle, is_accessible
)
SELECT
    %(layout)s AS layout_id,
    fresh.number,
    fresh.deck,
    fresh.row_index,
    fresh.column_index,
    fresh.class,
    fresh.is_window,
    fresh.is_aisle,
    fresh.is_accessible
FROM unnest(
    %(numbers)s::text[], %(decks)s::smallint[], %(row_indexes)s::smallint[], %(column_indexes)s::smallint[],
    %(classes)s::text[], %(windows)s::boolean[], %(aisles)s::boolean[], %(accessibles)s::boolean[]
) AS fresh (number, deck, row_index, column_index, class, is_window, is_aisle, is_accessible);

-- insert_features :execute
INSERT INTO layout_feature (layout_id, deck, row_index, column_index, kind)
SELECT
    %(layout)s AS layout_id,
    fresh.deck,
    fresh.row_index,
    fresh.column_index,
    fresh.kind
FROM unnest(
    %(decks)s::smallint[], %(row_indexes)s::smallint[], %(column_indexes)s::smallint[], %(kinds)s::text[]
) AS fresh (deck, row_index, column_index, kind);

-- put_vehicle :execute
INSERT INTO vehicle (id, operator_id, layout_id, kind, name, registration)
VALUES (%(id)s, %(operator_id)s, %(layout_id)s, %(kind)s, %(name)s, %(registration)s)
ON CONFLICT (id) DO UPDATE
    SET
        layout_id = excluded.layout_id, kind = excluded.kind, name = excluded.name,
        registration = excluded.registration;

-- put_route :execute
INSERT INTO route (id, operator_id, code, name)
VALUES (%(id)s, %(operator_id)s, %(code)s, %(name)s)
ON CONFLICT (id) DO UPDATE SET code = excluded.code, name = excluded.name;

-- put_route_stops :execute
INSERT INTO route_stop (route_id, seq, stop_id, arrives_after_minutes, departs_after_minutes)
SELECT
    %(route)s AS route_id,
    fresh.seq,
    fresh.stop_id,
    fresh.arrives_after_minutes,
    fresh.departs_after_minutes
FROM
    unnest(
        %(seqs)s::smallint[], %(stops)s::uuid[], %(arrives_after_minutes)s::integer[],
        %(departs_after_minutes)s::integer[]
    ) AS fresh (seq, stop_id, arrives_after_minutes, departs_after_minutes)
ON CONFLICT (route_id, seq) DO UPDATE
    SET
        arrives_after_minutes = excluded.arrives_after_minutes,
        departs_after_minutes = excluded.departs_after_minutes;

-- The fares of a route that a new list no longer has.
-- drop_fares :execute
DELETE FROM fare
WHERE
    route_id = %(route)s
    AND NOT EXISTS (
        SELECT 1
        FROM
            unnest(
                %(from_seqs)s::smallint[], %(to_seqs)s::smallint[], %(classes)s::text[]
            ) AS kept (from_seq, to_seq, class)
        WHERE fare.from_seq = kept.from_seq AND fare.to_seq = kept.to_seq AND fare.class = kept.class
    );

-- put_fares :execute
INSERT INTO fare (route_id, from_seq, to_seq, class, amount, currency)
SELECT
    %(route)s AS route_id,
    fresh.from_seq,
    fresh.to_seq,
    fresh.class,
    fresh.amount,
    fresh.currency
FROM
    unnest(
        %(from_seqs)s::smallint[], %(to_seqs)s::smallint[], %(classes)s::text[], %(amounts)s::bigint[],
        %(currencies)s::text[]
    ) AS fresh (from_seq, to_seq, class, amount, currency)
ORDER BY fresh.from_seq, fresh.to_seq, fresh.class
ON CONFLICT (route_id, from_seq, to_seq, class) DO UPDATE
    SET amount = excluded.amount, currency = excluded.currency;

-- put_schedule :execute
INSERT INTO schedule (
    id, operator_id, route_id, vehicle_id, departs_local, weekdays, valid_from, valid_until
)
VALUES (
    %(id)s, %(operator_id)s, %(route_id)s, %(vehicle_id)s, %(departs_local)s, %(weekdays)s, %(valid_from)s,
    %(valid_until)s
)
ON CONFLICT (id) DO UPDATE
    SET
        vehicle_id = excluded.vehicle_id, departs_local = excluded.departs_local, weekdays = excluded.weekdays,
        valid_from = excluded.valid_from, valid_until = excluded.valid_until;

-- What another process has made already, or makes right now, is left as it is, with its stops.
-- make_trips :one
WITH made AS (
    INSERT INTO trip (
        id, schedule_id, service_date, operator_id, route_id, vehicle_id, layout_id, departs_at, arrives_at
    )
    SELECT
        dated.id,
        schedule.id AS schedule_id,
        dated.service_date,
        schedule.operator_id,
        schedule.route_id,
        schedule.vehicle_id,
        vehicle.layout_id,
        dated.departs_at,
        dated.arrives_at
    FROM
        unnest(
            %(ids)s::uuid[], %(service_dates)s::date[], %(departures)s::timestamptz[], %(arrivals)s::timestamptz[]
        ) AS dated (id, service_date, departs_at, arrives_at)
    CROSS JOIN schedule
    INNER JOIN vehicle ON schedule.vehicle_id = vehicle.id
    WHERE schedule.id = %(schedule)s
    ORDER BY dated.service_date
    ON CONFLICT DO NOTHING
    RETURNING id, route_id
),

calls AS (
    INSERT INTO trip_stop (trip_id, seq, route_id, stop_id, arrives_at, departs_at, local_date)
    SELECT
        made.id AS trip_id,
        stopping.seq,
        made.route_id,
        stopping.stop_id,
        stopping.arrives_at,
        stopping.departs_at,
        stopping.local_date
    FROM
        unnest(
            %(call_trips)s::uuid[], %(call_seqs)s::smallint[], %(call_stops)s::uuid[],
            %(call_arrivals)s::timestamptz[], %(call_departures)s::timestamptz[], %(call_dates)s::date[]
        ) AS stopping (trip_id, seq, stop_id, arrives_at, departs_at, local_date)
    INNER JOIN made ON stopping.trip_id = made.id
)

SELECT count(*) AS trips FROM made;

-- cancel_trip :execute
UPDATE trip SET state = 'cancelled'
WHERE id = %(trip)s AND state = 'scheduled';

-- Trips that have left their first stop, or would have, and whose revenue is not all recognised, in the order of
-- departure.
-- open_departures :many
SELECT
    trip.id,
    trip.departs_at,
    (
        SELECT trip_stop.departs_at FROM trip_stop
        WHERE trip_stop.trip_id = trip.id
        ORDER BY trip_stop.seq DESC
        LIMIT 1 OFFSET 1
    ) AS boards_until,
    kiti_now() AS now
FROM trip
WHERE
    trip.revenue_at IS NULL AND trip.departs_at <= kiti_now()
    AND (trip.departs_at, trip.id) > (%(after_at)s::timestamptz, %(after)s::uuid)
ORDER BY trip.departs_at, trip.id
LIMIT %(limit)s;

-- One that was cancelled stays open until its fares have gone back, any until it is decided whose they are.
-- close_revenue :execute
UPDATE trip SET revenue_at = kiti_now()
WHERE
    id = any(%(trips)s::uuid[]) AND revenue_at IS NULL
    AND (
        state = 'scheduled'
        OR NOT EXISTS (
            SELECT 1 FROM booking_seat
            INNER JOIN booking ON booking_seat.booking_id = booking.id
            LEFT JOIN trip_refund
                ON booking_seat.booking_id = trip_refund.booking_id AND booking_seat.trip_id = trip_refund.trip_id
            WHERE
                booking_seat.trip_id = trip.id AND booking.state IN ('confirmed', 'completed')
                AND trip_refund.trip_id IS NULL
        )
    )
    AND NOT EXISTS (
        SELECT 1 FROM undecided_trip
        WHERE undecided_trip.trip_id = trip.id
    );

-- Whoever writes the whole demo network waits here for another that does; held until the transaction ends.
-- take_turns :execute
SELECT pg_advisory_xact_lock(hashtext('kiti.network'));

-- schedule_by_id :maybe
SELECT
    id,
    operator_id,
    route_id,
    vehicle_id,
    departs_local,
    weekdays,
    valid_from,
    valid_until
FROM schedule
WHERE id = %(schedule)s;

-- Schedules that run on some days, a page at a time, with the dates among those that have their trip.
-- schedules_after :many
SELECT
    schedule.id,
    schedule.operator_id,
    schedule.route_id,
    schedule.vehicle_id,
    schedule.departs_local,
    schedule.weekdays,
    schedule.valid_from,
    schedule.valid_until,
    array(
        SELECT trip.service_date FROM trip
        WHERE trip.schedule_id = schedule.id AND trip.service_date BETWEEN %(first)s AND %(last)s
    ) AS made
FROM schedule
WHERE schedule.id > %(after)s AND schedule.valid_until >= %(first)s AND schedule.valid_from <= %(last)s
ORDER BY schedule.id
LIMIT %(at_most)s;

-- calls_of_route :many
SELECT
    route_stop.seq,
    route_stop.stop_id,
    stop.timezone,
    route_stop.arrives_after_minutes,
    route_stop.departs_after_minutes
FROM route_stop
INNER JOIN stop ON route_stop.stop_id = stop.id
WHERE route_stop.route_id = %(route)s
ORDER BY route_stop.seq;

-- layout_by_id :maybe
SELECT
    id,
    operator_id,
    name
FROM layout
WHERE id = %(layout)s;

-- seats_of_layout :many
SELECT
    number,
    deck,
    row_index,
    column_index,
    class AS seat_class,
    is_window,
    is_aisle,
    is_accessible
FROM layout_seat
WHERE layout_id = %(layout)s
ORDER BY deck, row_index, column_index;

-- features_of_layout :many
SELECT
    deck,
    row_index,
    column_index,
    kind
FROM layout_feature
WHERE layout_id = %(layout)s
ORDER BY deck, row_index, column_index;

-- fares_of_route :many
SELECT
    from_seq,
    to_seq,
    class AS seat_class,
    amount,
    currency
FROM fare
WHERE route_id = %(route)s
ORDER BY from_seq, to_seq, amount, class;

-- trip_heads :many
SELECT
    trip.id,
    trip.operator_id,
    operator.code AS operator_code,
    operator.name AS operator_name,
    operator.support_phone,
    trip.route_id,
    route.name AS route_name,
    trip.layout_id,
    trip.service_date,
    trip.state,
    trip.departs_at,
    trip.arrives_at,
    vehicle.kind AS vehicle_kind,
    vehicle.name AS vehicle_name,
    vehicle.registration AS vehicle_registration
FROM trip
INNER JOIN operator ON trip.operator_id = operator.id
INNER JOIN route ON trip.route_id = route.id
INNER JOIN vehicle ON trip.vehicle_id = vehicle.id
WHERE trip.id = any(%(trips)s::uuid[]);

-- Those of these trips that are still to run, with the database's clock to compare boarding times with.
-- running :many
SELECT
    id,
    kiti_now() AS now
FROM trip
WHERE id = any(%(trips)s::uuid[]) AND state = 'scheduled';

-- A row where a trip still sells seats from a stop.
-- sells_from :maybe
SELECT trip.id
FROM trip
INNER JOIN trip_stop ON trip.id = trip_stop.trip_id
WHERE
    trip.id = %(trip)s AND trip_stop.seq = %(seq)s
    AND trip.state = 'scheduled' AND trip_stop.departs_at > kiti_now();

-- When trips that are still to run leave each of their stops.
-- boarding :many
SELECT
    trip_stop.trip_id,
    trip_stop.seq,
    trip_stop.departs_at
FROM trip_stop
INNER JOIN trip ON trip_stop.trip_id = trip.id
WHERE trip.id = any(%(trips)s::uuid[]) AND trip.state = 'scheduled';

-- stops_of_trips :many
SELECT
    trip_stop.trip_id,
    trip_stop.seq,
    trip_stop.stop_id,
    stop.code,
    stop.name,
    stop.city,
    stop.timezone,
    trip_stop.arrives_at,
    trip_stop.departs_at,
    trip_stop.local_date
FROM trip_stop
INNER JOIN stop ON trip_stop.stop_id = stop.id
WHERE trip_stop.trip_id = any(%(trips)s::uuid[])
ORDER BY trip_stop.trip_id, trip_stop.seq;

-- A search key is 'name | city', so a blank or the beginning stands before every word. An exact code goes first,
-- then codes, names and words that begin like it.
-- stops_matching :many
SELECT
    id,
    code,
    name,
    city,
    country,
    latitude,
    longitude,
    timezone
FROM stop
WHERE
    code LIKE %(code)s || '%%'
    OR search_key LIKE %(words)s || '%%'
    OR search_key LIKE '%% ' || %(words)s || '%%'
ORDER BY
    code <> %(code)s,
    code NOT LIKE %(code)s || '%%',
    search_key NOT LIKE %(words)s || '%%',
    search_key,
    code
LIMIT %(at_most)s;

-- Rank 0 is the code, 1 the name, 2 the city.
-- stops_named :many
SELECT
    id,
    code,
    name,
    city,
    country,
    latitude,
    longitude,
    timezone,
    CASE
        WHEN code = %(code)s THEN 0
        WHEN search_key LIKE %(words)s || ' | %%' THEN 1
        ELSE 2
    END AS rank
FROM stop
WHERE
    code = %(code)s
    OR search_key LIKE %(words)s || ' | %%'
    OR search_key LIKE '%% | ' || %(words)s
ORDER BY rank, name, code
LIMIT %(at_most)s;

-- For each route that calls at both stops in that order: one ordered index range of its departures on the local
-- date, no longer than the page. Only the page's own trips are looked at any further. The stops are compared again
-- with what the trips themselves say.
-- search :many
WITH pair AS (
    SELECT
        boards.route_id,
        boards.seq AS from_seq,
        alights.seq AS to_seq
    FROM route_stop AS boards
    INNER JOIN route_stop AS alights
        ON boards.route_id = alights.route_id AND boards.seq < alights.seq
    WHERE boards.stop_id = %(from_stop)s AND alights.stop_id = %(to_stop)s
),

page AS (
    SELECT
        departure.trip_id,
        pair.route_id,
        pair.from_seq,
        pair.to_seq,
        departure.departs_at
    FROM pair
    CROSS JOIN
        LATERAL (
            SELECT
                boarding.trip_id,
                boarding.departs_at
            FROM trip_stop AS boarding
            INNER JOIN trip ON boarding.trip_id = trip.id
            WHERE
                boarding.route_id = pair.route_id
                AND boarding.seq = pair.from_seq
                AND boarding.local_date = %(day)s
                AND boarding.departs_at > kiti_now()
                AND (boarding.departs_at, boarding.trip_id) > (%(after_at)s, %(after_trip)s)
                AND boarding.stop_id = %(from_stop)s
                AND trip.state = 'scheduled'
                AND EXISTS (
                    SELECT 1
                    FROM fare
                    INNER JOIN layout_seat ON fare.class = layout_seat.class
                    WHERE
                        fare.route_id = pair.route_id
                        AND fare.from_seq = pair.from_seq
                        AND fare.to_seq = pair.to_seq
                        AND layout_seat.layout_id = trip.layout_id
                )
            ORDER BY boarding.departs_at, boarding.trip_id
            LIMIT %(at_most)s
        ) AS departure
    ORDER BY departure.departs_at, departure.trip_id
    LIMIT %(at_most)s
)

SELECT
    page.trip_id,
    trip.operator_id,
    operator.name AS operator_name,
    page.from_seq,
    page.to_seq,
    page.departs_at,
    alighting.arrives_at,
    cheapest.amount,
    cheapest.currency,
    vehicle.kind AS vehicle_kind,
    vehicle.name AS vehicle_name,
    layout.seat_count
FROM page
INNER JOIN trip ON page.trip_id = trip.id
INNER JOIN trip_stop AS alighting
    ON page.trip_id = alighting.trip_id AND page.to_seq = alighting.seq AND alighting.stop_id = %(to_stop)s
INNER JOIN operator ON trip.operator_id = operator.id
INNER JOIN vehicle ON trip.vehicle_id = vehicle.id
INNER JOIN layout ON trip.layout_id = layout.id
CROSS JOIN
    LATERAL (
        SELECT
            fare.amount,
            fare.currency
        FROM fare
        WHERE
            fare.route_id = page.route_id
            AND fare.from_seq = page.from_seq
            AND fare.to_seq = page.to_seq
            AND EXISTS (
                SELECT 1
                FROM layout_seat
                WHERE layout_seat.layout_id = trip.layout_id AND layout_seat.class = fare.class
            )
        ORDER BY fare.amount
        LIMIT 1
    ) AS cheapest
ORDER BY page.departs_at, page.trip_id;

-- The seats of a page's trips that somebody has on any leg of the segment. A statement of its own, because claims
-- are distributed by trip while everything above is a catalogue.
-- seats_taken :many
SELECT
    asked.trip_id,
    count(DISTINCT seat_claim.seat) AS taken
FROM
    unnest(
        %(trips)s::uuid[], %(from_seqs)s::smallint[], %(to_seqs)s::smallint[]
    ) AS asked (trip_id, from_seq, to_seq)
INNER JOIN seat_claim
    ON
        asked.trip_id = seat_claim.trip_id
        AND asked.from_seq <= seat_claim.leg
        AND asked.to_seq > seat_claim.leg
WHERE seat_claim.expires_at > kiti_now()
GROUP BY asked.trip_id;

-- departures_by_day :many
SELECT
    boarding.local_date,
    count(*) AS departures
FROM route_stop AS boards
INNER JOIN route_stop AS alights
    ON boards.route_id = alights.route_id AND boards.seq < alights.seq
INNER JOIN trip_stop AS boarding
    ON boards.route_id = boarding.route_id AND boards.seq = boarding.seq AND boards.stop_id = boarding.stop_id
INNER JOIN trip ON boarding.trip_id = trip.id
WHERE
    boards.stop_id = %(from_stop)s
    AND alights.stop_id = %(to_stop)s
    AND boarding.local_date BETWEEN %(first_day)s AND %(last_day)s
    AND boarding.departs_at > kiti_now()
    AND trip.state = 'scheduled'
    AND EXISTS (
        SELECT 1
        FROM fare
        INNER JOIN layout_seat ON fare.class = layout_seat.class
        WHERE
            fare.route_id = boards.route_id
            AND fare.from_seq = boards.seq
            AND fare.to_seq = alights.seq
            AND layout_seat.layout_id = trip.layout_id
    )
GROUP BY boarding.local_date
ORDER BY boarding.local_date;

-- The ends of routes by how often schedules run between them. The price is the busiest route's cheapest: routes
-- between the same ends may ask in different currencies.
-- popular_pairs :many
WITH running AS (
    SELECT
        route_id,
        sum(bit_count(weekdays::integer::bit(7)))::integer AS departures
    FROM schedule
    WHERE kiti_now()::date BETWEEN valid_from AND valid_until
    GROUP BY route_id
),

ends AS (
    SELECT
        running.route_id,
        running.departures,
        max(route_stop.seq) AS last_seq
    FROM running
    INNER JOIN route_stop ON running.route_id = route_stop.route_id
    GROUP BY running.route_id, running.departures
),

priced AS (
    SELECT
        ends.route_id,
        ends.departures,
        ends.last_seq,
        min(fare.amount) AS amount,
        min(fare.currency) AS currency
    FROM ends
    INNER JOIN fare ON ends.route_id = fare.route_id AND fare.from_seq = 0 AND ends.last_seq = fare.to_seq
    GROUP BY ends.route_id, ends.departures, ends.last_seq
)

SELECT
    origin.code AS from_code,
    origin.name AS from_name,
    origin.city AS from_city,
    destination.code AS to_code,
    destination.name AS to_name,
    destination.city AS to_city,
    sum(priced.departures) AS departures_per_week,
    (array_agg(route.operator_id ORDER BY priced.departures DESC, priced.route_id ASC))[1] AS operator_id,
    (array_agg(priced.amount ORDER BY priced.departures DESC, priced.route_id ASC))[1] AS amount,
    (array_agg(priced.currency ORDER BY priced.departures DESC, priced.route_id ASC))[1] AS currency
FROM priced
INNER JOIN route ON priced.route_id = route.id
INNER JOIN route_stop AS boards ON priced.route_id = boards.route_id AND boards.seq = 0
INNER JOIN route_stop AS alights ON priced.route_id = alights.route_id AND priced.last_seq = alights.seq
INNER JOIN stop AS origin ON boards.stop_id = origin.id
INNER JOIN stop AS destination ON alights.stop_id = destination.id
GROUP BY origin.id, destination.id
ORDER BY departures_per_week DESC, from_code ASC, to_code ASC
LIMIT %(at_most)s;

-- refund_rules :many
SELECT
    operator_id,
    class AS seat_class,
    hours_before,
    percent
FROM refund_rule
WHERE operator_id = any(%(operators)s::uuid[])
ORDER BY operator_id ASC, class ASC, hours_before DESC;

-- refund_fees :many
SELECT
    operator_id,
    kind,
    currency,
    amount
FROM refund_fee
WHERE operator_id = any(%(operators)s::uuid[]);

-- drop_refund_rules :execute
DELETE FROM refund_rule
WHERE operator_id = %(operator)s;

-- drop_refund_fees :execute
DELETE FROM refund_fee
WHERE operator_id = %(operator)s;

-- put_refund_rules :execute
INSERT INTO refund_rule (operator_id, class, hours_before, percent)
SELECT
    %(operator)s AS operator_id,
    new.class,
    new.hours_before,
    new.percent
FROM unnest(%(classes)s::text[], %(hours)s::integer[], %(percents)s::smallint[]) AS new (class, hours_before, percent);

-- put_refund_fees :execute
INSERT INTO refund_fee (operator_id, kind, currency, amount)
SELECT
    %(operator)s AS operator_id,
    new.kind,
    new.currency,
    new.amount
FROM unnest(%(kinds)s::text[], %(currencies)s::text[], %(amounts)s::bigint[]) AS new (kind, currency, amount);

-- set_lost_seats :execute
UPDATE operator SET replaces_lost_seats = %(replaces)s
WHERE id = %(operator)s;

-- replacing_lost_seats :many
SELECT id FROM operator
WHERE id = any(%(operators)s::uuid[]) AND replaces_lost_seats;

-- operator_by_code :maybe
SELECT id FROM operator
WHERE code = %(code)s;

-- operator_codes :many
SELECT
    id,
    code
FROM operator
ORDER BY code;
