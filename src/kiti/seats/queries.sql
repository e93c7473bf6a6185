-- The one way to take a seat-leg: acquire, extend and confirm are this statement. A leg is ours if nobody has it,
-- if whoever had it let it expire, or if it is our own. The clause compares stored values only, so it is immutable
-- and runs on Citus; the database's clock is read once. Rows go in key order, so that two batches cannot deadlock.
-- claim :many
INSERT INTO seat_claim AS held (trip_id, seat, leg, owner_id, claimed_at, expires_at)
SELECT
    want.trip_id,
    want.seat,
    want.leg,
    want.owner_id,
    clock.now,
    coalesce(clock.now + want.ttl_seconds * interval '1 second', 'infinity')
FROM
    unnest(
        %(trips)s::uuid[], %(seats)s::text[], %(legs)s::smallint[], %(owners)s::uuid[], %(ttls)s::integer[]
    ) AS want (trip_id, seat, leg, owner_id, ttl_seconds)
CROSS JOIN (SELECT kiti_now() AS now) AS clock
ORDER BY want.trip_id, want.seat, want.leg
ON CONFLICT (trip_id, seat, leg) DO UPDATE
    SET owner_id = excluded.owner_id, claimed_at = excluded.claimed_at, expires_at = excluded.expires_at
    WHERE held.expires_at <= excluded.claimed_at OR held.owner_id = excluded.owner_id
RETURNING
    held.trip_id,
    held.seat,
    held.leg,
    held.owner_id,
    held.claimed_at,
    nullif(held.expires_at, 'infinity') AS expires_at;

-- Give up what is ours among these keys; what somebody else has taken over meanwhile stays theirs.
-- release :execute
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
    AND seat_claim.owner_id = key.owner_id;

-- The seats that are not free somewhere between two stops; one index range scan.
-- taken :many
SELECT
    seat,
    bool_or(expires_at = 'infinity') AS sold
FROM seat_claim
WHERE
    trip_id = %(trip)s
    AND leg >= %(from_seq)s
    AND leg < %(to_seq)s
    AND expires_at > kiti_now()
GROUP BY seat
ORDER BY seat;
