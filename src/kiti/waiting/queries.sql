-- now :one
SELECT kiti_now() AS now;

-- open_room :execute
INSERT INTO waiting_room (
    id, name, rate_per_second, burst, window_seconds, next_number, next_admission, opens_at, created_at
)
SELECT
    %(id)s,
    %(name)s,
    %(rate_per_second)s,
    %(burst)s,
    %(window_seconds)s,
    1 AS next_number,
    opening.at AS next_admission,
    opening.at AS opens_at,
    kiti_now() AS created_at
FROM (SELECT greatest(%(opens_at)s::timestamptz, kiti_now()) AS at) AS opening;

-- A trip that is behind another door stays there, and is missing from the answer.
-- put_trips :many
INSERT INTO waiting_room_trip (trip_id, room_id)
SELECT
    asked.trip_id,
    %(room)s AS room_id
FROM unnest(%(trips)s::uuid[]) AS asked (trip_id)
ORDER BY asked.trip_id
ON CONFLICT (trip_id) DO NOTHING
RETURNING trip_id AS id;

-- count_trips :one
SELECT count(*)::integer AS trips FROM waiting_room_trip;

-- close_room :execute
UPDATE waiting_room SET closed_at = kiti_now()
WHERE id = %(room)s AND closed_at IS NULL;

-- free_trips :execute
DELETE FROM waiting_room_trip
WHERE room_id = %(room)s;

-- open_rooms :many
SELECT
    room.id,
    room.name,
    room.rate_per_second,
    room.burst,
    room.window_seconds,
    room.next_number,
    room.next_admission,
    room.opens_at,
    array_agg(behind.trip_id ORDER BY behind.trip_id) AS trips
FROM waiting_room_trip AS behind
INNER JOIN waiting_room AS room ON behind.room_id = room.id
GROUP BY room.id
ORDER BY room.id
LIMIT 1000;

-- So many places at the end of each line. The row's lock is what decides who comes first.
-- take_places :many
UPDATE waiting_room AS room
SET
    next_number = room.next_number + asked.places,
    next_admission
    = greatest(room.next_admission, kiti_now() - make_interval(secs => (room.burst - 1) / room.rate_per_second))
    + make_interval(secs => asked.places / room.rate_per_second)
FROM unnest(%(rooms)s::uuid[], %(places)s::integer[]) AS asked (room_id, places)
WHERE room.id = asked.room_id AND room.closed_at IS NULL
RETURNING
    room.id,
    room.next_number - asked.places AS first_number,
    room.next_admission - make_interval(secs => asked.places / room.rate_per_second) AS first_admission,
    room.rate_per_second,
    room.window_seconds,
    kiti_now() AS now;

-- Counts an attempt, unless there were too many or something is booked with the place: those are missing from the
-- answer. A booking that does not count any more comes along as booking_id.
-- use_places :many
INSERT INTO waiting_place_use AS known (room_id, number, uses, booking_id)
SELECT
    asked.room_id,
    asked.number,
    1 AS uses,
    asked.booking_id
FROM
    unnest(
        %(rooms)s::uuid[], %(numbers)s::bigint[], %(instead_of)s::uuid[]
    ) AS asked (room_id, number, booking_id)
ORDER BY asked.room_id, asked.number
ON CONFLICT (room_id, number) DO UPDATE
    SET uses = known.uses + 1
    WHERE known.uses < %(most)s::integer AND (known.booking_id IS NULL OR known.booking_id = excluded.booking_id)
RETURNING known.room_id, known.number, known.uses, known.booking_id;

-- used_places :many
SELECT
    known.room_id,
    known.number,
    known.uses,
    known.booking_id
FROM unnest(%(rooms)s::uuid[], %(numbers)s::bigint[]) AS asked (room_id, number)
INNER JOIN waiting_place_use AS known ON asked.room_id = known.room_id AND asked.number = known.number;

-- Of two bookings with one place the first one counts; the other is missing from the answer.
-- note_bookings :many
WITH asked AS (
    SELECT
        known.room_id,
        known.number,
        made.booking_id,
        made.instead_of
    FROM
        unnest(
            %(rooms)s::uuid[], %(numbers)s::bigint[], %(bookings)s::uuid[], %(instead_of)s::uuid[]
        ) AS made (room_id, number, booking_id, instead_of)
    INNER JOIN waiting_place_use AS known ON made.room_id = known.room_id AND made.number = known.number
    ORDER BY known.room_id, known.number
    FOR UPDATE OF known
)

UPDATE waiting_place_use AS known
SET booking_id = asked.booking_id
FROM asked
WHERE
    known.room_id = asked.room_id
    AND known.number = asked.number
    AND (known.booking_id IS NULL OR known.booking_id = asked.instead_of)
RETURNING known.room_id, known.number, known.uses, known.booking_id;
