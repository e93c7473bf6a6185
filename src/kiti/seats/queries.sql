-- The one way to take a seat-leg: acquire, extend and confirm are this statement. A leg is ours if nobody has it,
-- if whoever had it let it expire, or if it is our own. The clause compares stored values only, so it is immutable
-- and runs on Citus; the database's clock is read once. Rows go in key order, so that two batches cannot deadlock.
-- claim :many
INSERT INTO seat_claim AS held (trip_id, seat, leg, owner_id, claimed_at, expires_at)
SELECT
    want.trip_id,
    want.seat,
    leg.seq AS leg,
    want.owner_id,
    clock.now AS claimed_at,
    coalesce(clock.now + want.ttl_seconds * interval '1 second', 'infinity') AS expires_at
FROM
    unnest(
        %(trips)s::uuid[], %(seats)s::text[], %(from_seqs)s::integer[], %(to_seqs)s::integer[],
        %(owners)s::uuid[], %(ttls)s::integer[]
    ) AS want (trip_id, seat, from_seq, to_seq, owner_id, ttl_seconds)
CROSS JOIN LATERAL generate_series(want.from_seq, want.to_seq - 1) AS leg (seq)
CROSS JOIN (SELECT kiti_now() AS now) AS clock
ORDER BY want.trip_id, want.seat, leg.seq
ON CONFLICT (trip_id, seat, leg) DO UPDATE
    SET owner_id = excluded.owner_id, claimed_at = excluded.claimed_at, expires_at = excluded.expires_at
    WHERE held.expires_at <= excluded.claimed_at OR held.owner_id = excluded.owner_id
RETURNING uuid_send(held.owner_id) AS owner, held.claimed_at;

-- Give up what is ours among these keys; what somebody else has taken over meanwhile stays theirs.
-- release :many
DELETE FROM seat_claim
USING (
    SELECT
        mine.trip_id,
        mine.seat,
        mine.leg,
        mine.owner_id
    FROM
        unnest(
            %(trips)s::uuid[], %(seats)s::text[], %(legs)s::smallint[], %(owners)s::uuid[]
        ) AS mine (trip_id, seat, leg, owner_id)
    ORDER BY mine.trip_id, mine.seat, mine.leg
) AS key
WHERE
    seat_claim.trip_id = key.trip_id
    AND seat_claim.seat = key.seat
    AND seat_claim.leg = key.leg
    AND seat_claim.owner_id = key.owner_id
RETURNING seat_claim.owner_id, seat_claim.trip_id, seat_claim.seat, seat_claim.leg;

-- Give up whatever these bookings still have, in key order as everywhere; the keys never leave the database. A range of
-- legs rather than a row for each: the planner knows how many seats a booking has, but not how long a series is.
-- release_bookings :execute
DELETE FROM seat_claim
USING (
    SELECT
        trip_id,
        seat,
        from_seq,
        to_seq,
        booking_id
    FROM booking_seat
    WHERE booking_id = any(%(bookings)s::uuid[])
    ORDER BY trip_id, seat
) AS line
WHERE
    seat_claim.trip_id = line.trip_id
    AND seat_claim.seat = line.seat
    AND seat_claim.leg >= line.from_seq
    AND seat_claim.leg < line.to_seq
    AND seat_claim.owner_id = line.booking_id;

-- The seats that are not free somewhere between two stops; one index range scan of the trip's claims.
-- taken :many
SELECT
    seat_claim.seat,
    bool_or(seat_claim.expires_at = 'infinity') AS sold,
    bool_or(seat_block.id IS NOT NULL) AS blocked
FROM seat_claim
LEFT JOIN seat_block ON seat_claim.trip_id = seat_block.trip_id AND seat_claim.owner_id = seat_block.id
WHERE
    seat_claim.trip_id = %(trip)s
    AND seat_claim.leg >= %(from_seq)s
    AND seat_claim.leg < %(to_seq)s
    AND seat_claim.expires_at > kiti_now()
GROUP BY seat_claim.seat
ORDER BY seat_claim.seat;

-- held_on_trip :many
SELECT
    trip_id,
    seat,
    leg,
    owner_id,
    claimed_at,
    nullif(expires_at, 'infinity') AS expires_at
FROM seat_claim
WHERE trip_id = %(trip)s AND expires_at > kiti_now()
ORDER BY seat, leg;

-- note_block :execute
INSERT INTO seat_block (trip_id, id, reason, actor, created_at)
VALUES (%(trip)s, %(id)s, %(reason)s, %(actor)s, kiti_now());

-- lift_block :execute
UPDATE seat_block SET lifted_at = kiti_now()
WHERE trip_id = %(trip)s AND id = %(id)s AND lifted_at IS NULL;

-- release_owner :execute
DELETE FROM seat_claim
WHERE trip_id = %(trip)s AND owner_id = %(owner)s;

-- A hold that changes its seats keeps its end, to the microsecond; a time to live counts in whole seconds.
-- keep_until :execute
UPDATE seat_claim SET expires_at = %(expires_at)s
FROM
    (
        SELECT
            mine.trip_id,
            mine.seat,
            mine.leg
        FROM unnest(%(trips)s::uuid[], %(seats)s::text[], %(legs)s::smallint[]) AS mine (trip_id, seat, leg)
        ORDER BY mine.trip_id, mine.seat, mine.leg
    ) AS key
WHERE
    seat_claim.trip_id = key.trip_id
    AND seat_claim.seat = key.seat
    AND seat_claim.leg = key.leg
    AND seat_claim.owner_id = %(owner)s;

-- What staff have taken off sale and not lifted again; each has one leg of one seat at least, so a trip bounds them.
-- blocks_on_trip :many
SELECT
    seat_block.id,
    seat_block.reason,
    seat_block.actor,
    seat_block.created_at,
    array_agg(DISTINCT seat_claim.seat ORDER BY seat_claim.seat) AS seats,
    min(seat_claim.leg) AS from_seq,
    max(seat_claim.leg) + 1 AS to_seq
FROM seat_block
INNER JOIN seat_claim ON seat_block.trip_id = seat_claim.trip_id AND seat_block.id = seat_claim.owner_id
WHERE seat_block.trip_id = %(trip)s AND seat_block.lifted_at IS NULL
GROUP BY seat_block.id, seat_block.reason, seat_block.actor, seat_block.created_at
ORDER BY seat_block.created_at, seat_block.id;
