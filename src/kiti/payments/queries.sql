-- Writes the intent down, with the first row of its history, before any gateway hears of it. A second open attempt
-- violates payment_one_open.
-- open_attempt :one
WITH opened AS (
    INSERT INTO payment (
        booking_id,
        id,
        gateway,
        method,
        channel,
        phone,
        state,
        amount,
        fee,
        currency,
        return_url,
        created_at,
        expires_at,
        poll_after
    )
    VALUES (
        %(booking)s, %(id)s, %(gateway)s, %(method)s, %(channel)s, %(phone)s, 'created', %(amount)s, %(fee)s,
        %(currency)s, %(return_url)s, kiti_now(), %(expires_at)s, kiti_now() + %(poll_seconds)s * interval '1 second'
    )
    RETURNING
        booking_id,
        id,
        gateway,
        method,
        state,
        amount,
        fee,
        currency,
        return_url,
        checkout_url,
        failure_reason,
        created_at,
        expires_at,
        polls,
        channel,
        phone
),

noted AS (
    INSERT INTO payment_history (booking_id, payment_id, id, at, from_state, to_state, reason)
    SELECT
        opened.booking_id,
        opened.id AS payment_id,
        %(step)s AS id,
        opened.created_at AS at,
        'new' AS from_state,
        opened.state AS to_state,
        'opened' AS reason
    FROM opened
)

SELECT
    booking_id,
    id,
    gateway,
    method,
    state,
    amount,
    fee,
    currency,
    return_url,
    checkout_url,
    failure_reason,
    created_at,
    expires_at,
    polls,
    channel,
    phone,
    created_at AS now
FROM opened;

-- Whoever makes this move asks the gateway. The booking is locked first, as by everybody who moves its payments, and it
-- holds its seats still.
-- submit :execute
WITH holding AS MATERIALIZED (
    SELECT id FROM booking
    WHERE id = %(booking)s AND state IN ('held', 'awaiting_payment') AND hold_expires_at > kiti_now()
    FOR UPDATE
),

moved AS (
    UPDATE payment SET state = 'submitting'
    FROM holding
    WHERE
        payment.booking_id = holding.id AND payment.id = %(id)s AND payment.state = 'created'
        AND payment.created_at >= kiti_now() - %(within_seconds)s * interval '1 second'
    RETURNING payment.booking_id, payment.id
)

INSERT INTO payment_history (booking_id, payment_id, id, at, from_state, to_state, reason)
SELECT
    moved.booking_id,
    moved.id AS payment_id,
    %(step)s AS id,
    kiti_now() AS at,
    'created' AS from_state,
    'submitting' AS to_state,
    'the gateway is asked' AS reason
FROM moved;

-- by_id :maybe
SELECT
    booking_id,
    id,
    gateway,
    method,
    state,
    amount,
    fee,
    currency,
    return_url,
    checkout_url,
    failure_reason,
    created_at,
    expires_at,
    polls,
    channel,
    phone,
    kiti_now() AS now
FROM payment
WHERE id = %(id)s;

-- newest_of_booking :maybe
SELECT
    booking_id,
    id,
    gateway,
    method,
    state,
    amount,
    fee,
    currency,
    return_url,
    checkout_url,
    failure_reason,
    created_at,
    expires_at,
    polls,
    channel,
    phone,
    kiti_now() AS now
FROM payment
WHERE booking_id = %(booking)s
ORDER BY (state IN ('created', 'submitting', 'unknown', 'pending', 'requires_action', 'authorised')) DESC, id DESC
LIMIT 1;

-- All attempts of bookings: a handful each, as one has to end before the next may begin.
-- of_bookings :many
SELECT
    booking_id,
    id,
    gateway,
    method,
    state,
    amount,
    fee,
    currency,
    return_url,
    checkout_url,
    failure_reason,
    created_at,
    expires_at,
    polls,
    channel,
    phone,
    kiti_now() AS now
FROM payment
WHERE booking_id = any(%(bookings)s::uuid[])
ORDER BY booking_id, id;

-- move :execute
UPDATE payment SET
    state = %(to_state)s,
    failure_reason = coalesce(%(failure_reason)s, failure_reason),
    checkout_url = coalesce(%(checkout_url)s, checkout_url)
WHERE booking_id = %(booking)s AND id = %(id)s AND state = %(from_state)s;

-- Moves many, and says when their gateway is asked again; NULL: never.
-- move_many :many
UPDATE payment SET
    state = %(to_state)s::text,
    failure_reason = coalesce(moved.failure_reason, payment.failure_reason),
    polls = payment.polls + 1,
    polled_at = kiti_now(),
    poll_after = CASE
        WHEN moved.from_state <> 'created' THEN kiti_now() + %(poll_seconds)s::integer * interval '1 second'
    END -- one that was only created was asked of nobody
FROM
    unnest(%(bookings)s::uuid[], %(ids)s::uuid[], %(from_states)s::text[], %(failure_reasons)s::text[])
        AS moved (booking_id, id, from_state, failure_reason)
WHERE payment.booking_id = moved.booking_id AND payment.id = moved.id AND payment.state = moved.from_state
RETURNING payment.id;

-- note_moves :execute
INSERT INTO payment_history (booking_id, payment_id, id, at, from_state, to_state, reason)
SELECT
    moved.booking_id,
    moved.payment_id,
    moved.id,
    kiti_now() AS at,
    moved.from_state,
    moved.to_state,
    moved.reason
FROM unnest(
    %(bookings)s::uuid[], %(payments)s::uuid[], %(ids)s::uuid[], %(from_states)s::text[], %(to_states)s::text[],
    %(reasons)s::text[]
) AS moved (booking_id, payment_id, id, from_state, to_state, reason);

-- history :many
SELECT
    at,
    from_state,
    to_state,
    reason
FROM payment_history
WHERE booking_id = %(booking)s AND payment_id = %(payment)s
ORDER BY at, id
LIMIT %(limit)s;

-- poll_later :execute
UPDATE payment SET
    polls = polls + 1,
    polled_at = kiti_now(),
    poll_after = kiti_now() + %(seconds)s * interval '1 second'
WHERE booking_id = %(booking)s AND id = %(id)s;

-- poll_no_more :execute
UPDATE payment SET polls = polls + 1, polled_at = kiti_now(), poll_after = NULL
WHERE booking_id = %(booking)s AND id = %(id)s;

-- postpone_poll :execute
UPDATE payment SET poll_after = kiti_now() + %(seconds)s * interval '1 second'
WHERE id = %(id)s AND poll_after IS NOT NULL;

-- postpone_refund :execute
UPDATE refund SET act_after = kiti_now() + %(seconds)s * interval '1 second'
WHERE id = %(id)s AND act_after IS NOT NULL;

-- due_for_poll :many
SELECT id FROM payment
WHERE poll_after <= kiti_now()
ORDER BY poll_after
LIMIT %(limit)s;

-- charge_of :maybe
SELECT
    booking_id,
    gateway,
    transaction_id,
    payment_id,
    purpose,
    amount,
    currency,
    fee_exact,
    captured_at,
    refund_reserved,
    disputed,
    excess,
    excess_reserved
FROM charge
WHERE booking_id = %(booking)s AND gateway = %(gateway)s AND transaction_id = %(transaction_id)s;

-- charges_of_booking :many
SELECT
    booking_id,
    gateway,
    transaction_id,
    payment_id,
    purpose,
    amount,
    currency,
    fee_exact,
    captured_at,
    refund_reserved,
    disputed,
    excess,
    excess_reserved
FROM charge
WHERE booking_id = %(booking)s
ORDER BY captured_at, transaction_id;

-- charges_of_bookings :many
SELECT
    booking_id,
    gateway,
    transaction_id,
    payment_id,
    purpose,
    amount,
    currency,
    fee_exact,
    captured_at,
    refund_reserved,
    disputed,
    excess,
    excess_reserved
FROM charge
WHERE booking_id = any(%(bookings)s::uuid[])
ORDER BY booking_id, captured_at, transaction_id;

-- Which of these bookings money was ever taken for.
-- charged :many
SELECT DISTINCT booking_id AS id FROM charge
WHERE booking_id = any(%(bookings)s::uuid[]);

-- record_charges :execute
INSERT INTO charge (
    booking_id, gateway, transaction_id, payment_id, purpose, amount, currency, fee_exact, captured_at, excess
)
SELECT
    taken.booking_id,
    taken.gateway,
    taken.transaction_id,
    taken.payment_id,
    taken.purpose,
    taken.amount,
    taken.currency,
    taken.fee_exact::numeric,
    kiti_now() AS captured_at,
    taken.excess
FROM unnest(
    %(bookings)s::uuid[], %(gateways)s::text[], %(transactions)s::text[], %(payments)s::uuid[], %(purposes)s::text[],
    %(amounts)s::bigint[], %(currencies)s::text[], %(fees)s::text[], %(excesses)s::bigint[]
) AS taken (booking_id, gateway, transaction_id, payment_id, purpose, amount, currency, fee_exact, excess);

-- No two refunds together can exceed the charge: the row itself refuses. Nor does what goes back of the price take of
-- what was paid beyond it, or the other way round. What is in dispute is of neither until it is lost.
-- reserve_refund :execute
UPDATE charge SET
    refund_reserved = refund_reserved + %(amount)s,
    excess_reserved = excess_reserved + %(of_excess)s
WHERE
    booking_id = %(booking)s AND gateway = %(gateway)s AND transaction_id = %(transaction_id)s
    AND refund_reserved + %(amount)s <= amount
    AND excess_reserved + %(of_excess)s <= excess
    AND refund_reserved - disputed - excess_reserved + %(amount)s - %(of_excess)s <= amount - excess;

-- A person takes money that came short for all that is due: it buys the seats after all, once.
-- accept_charge :execute
UPDATE charge SET purpose = 'fulfils'
WHERE
    booking_id = %(booking)s AND gateway = %(gateway)s AND transaction_id = %(transaction_id)s
    AND purpose = 'unfulfillable' AND refund_reserved = 0;

-- What is reserved for a dispute no refund can take; and the other way round.
-- reserve_dispute :execute
UPDATE charge SET refund_reserved = refund_reserved + %(amount)s, disputed = disputed + %(amount)s
WHERE
    booking_id = %(booking)s AND gateway = %(gateway)s AND transaction_id = %(transaction_id)s
    AND refund_reserved + %(amount)s <= amount;

-- The dispute is won: the money is ours again, to keep or to refund.
-- release_dispute :execute
UPDATE charge SET refund_reserved = refund_reserved - %(amount)s, disputed = disputed - %(amount)s
WHERE
    booking_id = %(booking)s AND gateway = %(gateway)s AND transaction_id = %(transaction_id)s
    AND disputed >= %(amount)s;

-- The money has gone back: it stays reserved, and is under dispute no more.
-- settle_dispute :execute
UPDATE charge SET disputed = disputed - %(amount)s, excess_reserved = excess_reserved + %(of_excess)s
WHERE
    booking_id = %(booking)s AND gateway = %(gateway)s AND transaction_id = %(transaction_id)s
    AND disputed >= %(amount)s;

-- Which charge a transaction of a gateway is.
-- charge_by_transaction :maybe
SELECT
    booking_id,
    gateway,
    transaction_id,
    payment_id,
    purpose,
    amount,
    currency,
    fee_exact,
    captured_at,
    refund_reserved,
    disputed,
    excess,
    excess_reserved
FROM charge
WHERE transaction_id = %(transaction_id)s AND gateway = %(gateway)s;

-- open_refund :execute
WITH opened AS (
    INSERT INTO refund (
        booking_id, id, gateway, transaction_id, amount, currency, reason, state, created_at, act_after
    )
    VALUES (
        %(booking)s, %(id)s, %(gateway)s, %(transaction_id)s, %(amount)s, %(currency)s, %(reason)s, 'requested',
        kiti_now(), kiti_now()
    )
    RETURNING booking_id, id, state, reason
)

INSERT INTO refund_history (booking_id, refund_id, id, at, from_state, to_state, reason)
SELECT
    booking_id,
    id AS refund_id,
    %(step)s::uuid AS id,
    kiti_now() AS at,
    'new' AS from_state,
    state AS to_state,
    reason
FROM opened;

-- refund_history :many
SELECT
    at,
    from_state,
    to_state,
    reason
FROM refund_history
WHERE booking_id = %(booking)s AND refund_id = %(refund)s
ORDER BY at, id
LIMIT %(limit)s;

-- refund_by_id :maybe
SELECT
    booking_id,
    id,
    gateway,
    transaction_id,
    amount,
    currency,
    reason,
    state,
    gateway_refund_id,
    failure_reason,
    attempts,
    created_at,
    act_after,
    kiti_now() AS now
FROM refund
WHERE id = %(id)s;

-- refunds_of_booking :many
SELECT
    booking_id,
    id,
    gateway,
    transaction_id,
    amount,
    currency,
    reason,
    state,
    gateway_refund_id,
    failure_reason,
    attempts,
    created_at,
    act_after,
    kiti_now() AS now
FROM refund
WHERE booking_id = %(booking)s
ORDER BY created_at, id;

-- refunds_of_transaction :many
SELECT
    booking_id,
    id,
    gateway,
    transaction_id,
    amount,
    currency,
    reason,
    state,
    gateway_refund_id,
    failure_reason,
    attempts,
    created_at,
    act_after,
    kiti_now() AS now
FROM refund
WHERE transaction_id = %(transaction_id)s
ORDER BY created_at, id
LIMIT 50;

-- The number of attempts is part of what was seen: 'submitting' again is not the 'submitting' of before.
-- move_refund :execute
WITH moved AS (
    UPDATE refund SET
        state = %(to_state)s,
        gateway_refund_id = coalesce(%(gateway_refund_id)s, gateway_refund_id),
        failure_reason = coalesce(%(failure_reason)s, failure_reason),
        attempts = attempts + CASE WHEN %(to_state)s = 'submitting' THEN 1 ELSE 0 END,
        act_after = kiti_now() + %(act_after_seconds)s * interval '1 second'
    WHERE booking_id = %(booking)s AND id = %(id)s AND state = %(from_state)s AND attempts = %(attempts)s
    RETURNING booking_id, id, state
)

INSERT INTO refund_history (booking_id, refund_id, id, at, from_state, to_state, reason)
SELECT
    booking_id,
    id AS refund_id,
    %(step)s::uuid AS id,
    kiti_now() AS at,
    %(from_state)s::text AS from_state,
    state AS to_state,
    coalesce(%(failure_reason)s, '') AS reason
FROM moved;

-- Where it has moved on, whoever moved it has said when to look again: never sooner than a request on its way.
-- refund_later :execute
UPDATE refund SET act_after = kiti_now() + %(seconds)s * interval '1 second'
WHERE booking_id = %(booking)s AND id = %(id)s AND state = %(state)s AND attempts = %(attempts)s;

-- due_refunds :many
SELECT id FROM refund
WHERE act_after <= kiti_now()
ORDER BY act_after
LIMIT %(limit)s;

-- standing_of :one
SELECT
    coalesce((
        SELECT sum(taken.amount) FROM charge AS taken
        WHERE taken.booking_id = %(booking)s AND taken.payment_id = %(payment)s
    ), 0)::bigint AS captured,
    coalesce(sum(refund.amount) FILTER (WHERE refund.state = 'succeeded'), 0)::bigint AS refunded,
    coalesce(sum(refund.amount) FILTER (WHERE refund.state <> 'succeeded'), 0)::bigint AS refunding
FROM refund
INNER JOIN charge
    ON
        refund.booking_id = charge.booking_id
        AND refund.gateway = charge.gateway
        AND refund.transaction_id = charge.transaction_id
WHERE refund.booking_id = %(booking)s AND charge.payment_id = %(payment)s;

-- receive_delivery :execute
INSERT INTO webhook_delivery (digest, gateway, received_at, body)
VALUES (%(digest)s, %(gateway)s, kiti_now(), %(body)s)
ON CONFLICT (digest, gateway) DO NOTHING;

-- delivery :maybe
SELECT
    digest,
    gateway,
    body,
    processed_at,
    outcome
FROM webhook_delivery
WHERE digest = %(digest)s AND gateway = %(gateway)s;

-- delivery_done :execute
UPDATE webhook_delivery SET processed_at = kiti_now(), outcome = %(outcome)s
WHERE digest = %(digest)s AND gateway = %(gateway)s;

-- One that nobody has acted on yet is kept, however old it is.
-- forget_deliveries :execute
DELETE FROM webhook_delivery
WHERE (digest, gateway) IN (
    SELECT
        old.digest,
        old.gateway
    FROM webhook_delivery AS old
    WHERE old.processed_at <= kiti_now() - %(keep_days)s::integer * interval '1 day'
    ORDER BY old.processed_at
    LIMIT %(limit)s::integer
    FOR UPDATE SKIP LOCKED
);

-- Money taken that is neither a ticket nor on its way back nor before a person's eyes.
-- stranded_charges :many
SELECT
    charge.booking_id,
    charge.transaction_id
FROM charge
INNER JOIN payment ON charge.booking_id = payment.booking_id AND charge.payment_id = payment.id
WHERE
    charge.purpose <> 'fulfils' AND charge.refund_reserved < charge.amount AND payment.state <> 'review'
ORDER BY charge.booking_id, charge.transaction_id
LIMIT 100;

-- attention :one
SELECT
    (
        SELECT count(*) FROM payment
        WHERE state = 'review'
    ) AS payments_in_review,
    (
        SELECT count(*) FROM refund
        WHERE state = 'needs_attention'
    ) AS refunds_needing_attention;

-- What staff see of payments, the newest first: ids are in the order of time. With `operator` only those of bookings
-- with seats of theirs, and of the money only their part.
-- office_payments :many
SELECT
    payment.id,
    payment.booking_id,
    booking.reference,
    payment.gateway,
    payment.method,
    payment.state,
    CASE WHEN %(operator)s::uuid IS NULL THEN payment.amount + payment.fee ELSE part.fares END AS amount,
    payment.currency,
    payment.failure_reason,
    payment.created_at,
    CASE
        WHEN %(operator)s::uuid IS NULL AND charge.excess > 0
            THEN least(charge.amount - charge.refund_reserved, charge.excess - charge.excess_reserved)
        ELSE 0
    END AS excess
FROM payment
INNER JOIN booking ON payment.booking_id = booking.id
LEFT JOIN charge
    ON
        payment.booking_id = charge.booking_id
        AND payment.id = charge.payment_id
        AND charge.purpose = 'fulfils'
INNER JOIN LATERAL (
    SELECT sum(line.fare)::bigint AS fares FROM every_seat AS line
    WHERE
        line.booking_id = payment.booking_id
        AND (%(operator)s::uuid IS NULL OR line.operator_id = %(operator)s::uuid)
) AS part ON part.fares IS NOT NULL
WHERE
    payment.id >= %(first_id)s AND payment.id < %(before_id)s
    AND payment.state = any(%(states)s::text[])
ORDER BY payment.id DESC
LIMIT %(limit)s;

-- Payments in review, the longest waiting first. Why is told by the money that waits, not by the sentence.
-- office_reviews :many
SELECT
    payment.id,
    payment.booking_id,
    booking.reference,
    payment.gateway,
    about.kind,
    CASE WHEN %(operator)s::uuid IS NULL THEN payment.amount + payment.fee ELSE part.fares END AS amount,
    payment.currency,
    CASE WHEN %(operator)s::uuid IS NULL THEN came.amount END AS came,
    CASE WHEN %(operator)s::uuid IS NULL THEN came.currency END AS came_currency,
    CASE WHEN %(operator)s::uuid IS NULL THEN coalesce(payment.failure_reason, '') ELSE '' END AS reason,
    coalesce(began.at, payment.created_at) AS since,
    kiti_now() AS now
FROM payment
INNER JOIN booking ON payment.booking_id = booking.id
-- Nearly always one; of several the largest is what a person could accept.
LEFT JOIN LATERAL (
    SELECT
        charge.amount,
        charge.currency
    FROM charge
    WHERE
        charge.booking_id = payment.booking_id AND charge.payment_id = payment.id
        AND charge.refund_reserved < charge.amount
    ORDER BY (charge.currency = payment.currency) DESC, charge.amount DESC, charge.transaction_id ASC
    LIMIT 1
) AS came ON TRUE
CROSS JOIN
    LATERAL (
        SELECT
            CASE
                WHEN came.currency IS NULL THEN 'not_told'
                WHEN came.currency <> payment.currency THEN 'other_currency'
                ELSE 'too_little'
            END AS kind
    ) AS about
INNER JOIN LATERAL (
    SELECT sum(line.fare)::bigint AS fares FROM every_seat AS line
    WHERE
        line.booking_id = payment.booking_id
        AND (%(operator)s::uuid IS NULL OR line.operator_id = %(operator)s::uuid)
) AS part ON part.fares IS NOT NULL
LEFT JOIN LATERAL (
    SELECT max(step.at) AS at FROM payment_history AS step
    WHERE step.booking_id = payment.booking_id AND step.payment_id = payment.id AND step.to_state = 'review'
) AS began ON TRUE
WHERE
    payment.state = 'review'
    AND about.kind = any(%(kinds)s::text[])
    AND (%(gateway)s::text = '' OR payment.gateway = %(gateway)s)
    AND coalesce(began.at, payment.created_at) <= kiti_now() - %(older_seconds)s * interval '1 second'
    AND (
        %(code)s::text = ''
        OR EXISTS (
            SELECT 1
            FROM every_seat AS seat
            INNER JOIN operator ON seat.operator_id = operator.id
            WHERE seat.booking_id = payment.booking_id AND operator.code = %(code)s
        )
    )
ORDER BY payment.created_at, payment.id
LIMIT %(limit)s;

-- Refunds that need a person, the longest waiting first. An operator sees the amount where all seats are theirs.
-- office_refunds :many
SELECT
    refund.id,
    refund.booking_id,
    booking.reference,
    CASE WHEN %(operator)s::uuid IS NULL OR part.others = 0 THEN refund.amount END AS amount,
    refund.currency,
    refund.gateway,
    refund.reason,
    coalesce(refund.failure_reason, '') AS failure_reason,
    refund.attempts,
    refund.created_at AS since,
    kiti_now() AS now
FROM refund
INNER JOIN booking ON refund.booking_id = booking.id
INNER JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE line.operator_id = %(operator)s::uuid) AS theirs,
        count(*) FILTER (WHERE line.operator_id <> %(operator)s::uuid) AS others
    FROM every_seat AS line
    WHERE line.booking_id = refund.booking_id
) AS part ON %(operator)s::uuid IS NULL OR part.theirs > 0
WHERE
    refund.state = 'needs_attention'
    AND (%(gateway)s::text = '' OR refund.gateway = %(gateway)s)
    AND refund.created_at <= kiti_now() - %(older_seconds)s * interval '1 second'
    AND (
        %(code)s::text = ''
        OR EXISTS (
            SELECT 1
            FROM every_seat AS seat
            INNER JOIN operator ON seat.operator_id = operator.id
            WHERE seat.booking_id = refund.booking_id AND operator.code = %(code)s
        )
    )
ORDER BY refund.created_at, refund.id
LIMIT %(limit)s;

-- note_trip_refund :execute
INSERT INTO trip_refund (booking_id, trip_id, refund_id, made_at)
VALUES (%(booking)s, %(trip)s, %(refund)s, kiti_now());

-- trips_refunded :many
SELECT trip_id AS id FROM trip_refund
WHERE booking_id = %(booking)s;

-- Those of which it is decided whose the fares are.
-- trips_given_back :many
SELECT
    booking_id,
    trip_id
FROM trip_refund
WHERE
    booking_id = any(%(bookings)s::uuid[])
    AND NOT EXISTS (
        SELECT 1 FROM undecided_trip
        WHERE undecided_trip.booking_id = trip_refund.booking_id AND undecided_trip.trip_id = trip_refund.trip_id
    );

-- Bookings with seats on a cancelled trip whose fares have not gone back, behind a place in their order: a cancellation
-- was cut short, or a payment came in beside it.
-- owed_for_trips :many
SELECT
    booking_seat.booking_id,
    booking_seat.trip_id
FROM trip
INNER JOIN booking_seat ON trip.id = booking_seat.trip_id
INNER JOIN booking ON booking_seat.booking_id = booking.id
WHERE
    trip.state = 'cancelled'
    AND booking.state IN ('held', 'awaiting_payment', 'confirmed', 'completed')
    AND NOT EXISTS (
        SELECT 1 FROM trip_refund
        WHERE trip_refund.booking_id = booking_seat.booking_id AND trip_refund.trip_id = booking_seat.trip_id
    )
    AND (booking_seat.booking_id, booking_seat.trip_id) > (%(after)s::uuid, %(after_trip)s::uuid)
GROUP BY booking_seat.booking_id, booking_seat.trip_id
ORDER BY booking_seat.booking_id, booking_seat.trip_id
LIMIT %(limit)s;

-- Charges of a day and around it: gateways have calendars of their own.
-- charges_between :many
SELECT
    booking_id,
    gateway,
    transaction_id,
    payment_id,
    purpose,
    amount,
    currency,
    fee_exact,
    captured_at,
    refund_reserved,
    disputed,
    excess,
    excess_reserved
FROM charge
WHERE gateway = %(gateway)s AND captured_at >= %(since)s AND captured_at < %(until)s
ORDER BY captured_at, transaction_id;

-- A person's decision about a break holds as long as it is the same; told differently, it is open again.
-- put_breaks :execute
INSERT INTO reconciliation_break AS known (
    transaction_id, gateway, kind, sides, id, day, booking_id, detail, found_at, seen_at
)
SELECT
    found.transaction_id,
    %(gateway)s,
    found.kind,
    found.sides,
    found.id,
    found.day,
    found.booking_id,
    found.detail,
    kiti_now() AS found_at,
    kiti_now() AS seen_at
FROM
    unnest(
        %(transactions)s::text[], %(kinds)s::text[], %(sides)s::text[], %(ids)s::uuid[], %(days)s::date[],
        %(bookings)s::uuid[], %(details)s::text[]
    ) AS found (transaction_id, kind, sides, id, day, booking_id, detail)
ORDER BY found.transaction_id, found.kind, found.sides
ON CONFLICT (transaction_id, gateway, kind, sides) DO UPDATE SET
    detail = excluded.detail,
    seen_at = excluded.seen_at,
    resolved_at = CASE
        WHEN known.resolution IS NOT NULL AND known.detail = excluded.detail THEN known.resolved_at
    END,
    resolved_by = CASE
        WHEN known.resolution IS NOT NULL AND known.detail = excluded.detail THEN known.resolved_by
        ELSE ''
    END,
    resolution = CASE
        WHEN known.detail = excluded.detail THEN known.resolution
    END;

-- What a comparison of that day does not find any more is over.
-- resolve_breaks :execute
UPDATE reconciliation_break SET resolved_at = kiti_now()
WHERE
    gateway = %(gateway)s AND day = %(day)s AND sides = 'ledger_gateway' AND resolved_at IS NULL
    AND NOT (transaction_id || ' ' || kind = any(%(still)s::text[]));

-- The same for comparisons that look at all days at once.
-- resolve_sides :execute
UPDATE reconciliation_break SET resolved_at = kiti_now()
WHERE
    gateway = %(gateway)s AND sides = any(%(sides)s::text[]) AND resolved_at IS NULL
    AND NOT (transaction_id || ' ' || kind || ' ' || sides = any(%(still)s::text[]));

-- open_breaks :many
SELECT
    id,
    transaction_id,
    gateway,
    kind,
    sides,
    day,
    booking_id,
    detail,
    found_at,
    resolved_at,
    assigned_to,
    resolved_by,
    coalesce(resolution, '') AS resolution,
    kiti_now() AS now
FROM reconciliation_break
WHERE resolved_at IS NULL
ORDER BY found_at, transaction_id, kind
LIMIT %(limit)s;

-- A person has said what becomes of it: once, and for good.
-- resolve_break :execute
UPDATE reconciliation_break SET
    resolved_at = kiti_now(), resolution = %(resolution)s, booking_id = coalesce(%(booking)s::uuid, booking_id)
WHERE
    transaction_id = %(transaction_id)s AND gateway = %(gateway)s AND kind = 'missing_ours'
    AND resolved_at IS NULL;

-- Money that a gateway took for nothing that we know.
-- unclaimed :many
SELECT
    id,
    transaction_id,
    gateway,
    kind,
    sides,
    day,
    booking_id,
    detail,
    found_at,
    resolved_at,
    assigned_to,
    resolved_by,
    coalesce(resolution, '') AS resolution,
    kiti_now() AS now
FROM reconciliation_break
WHERE
    resolved_at IS NULL AND kind = 'missing_ours'
    AND (%(gateway)s::text = '' OR gateway = %(gateway)s)
    AND found_at <= kiti_now() - %(older_seconds)s * interval '1 second'
ORDER BY found_at, transaction_id
LIMIT %(limit)s;

-- Breaks as the office filters them, the oldest first.
-- breaks_like :many
SELECT
    id,
    transaction_id,
    gateway,
    kind,
    sides,
    day,
    booking_id,
    detail,
    found_at,
    resolved_at,
    assigned_to,
    resolved_by,
    coalesce(resolution, '') AS resolution,
    kiti_now() AS now
FROM reconciliation_break
WHERE
    (NOT %(is_open)s::boolean OR resolved_at IS NULL)
    AND gateway = any(%(gateways)s::text[]) AND kind = any(%(kinds)s::text[])
    AND day BETWEEN %(since)s::date AND %(until)s::date
ORDER BY found_at, transaction_id, kind, sides
LIMIT %(limit)s;

-- break_by_id :maybe
SELECT
    id,
    transaction_id,
    gateway,
    kind,
    sides,
    day,
    booking_id,
    detail,
    found_at,
    resolved_at,
    assigned_to,
    resolved_by,
    coalesce(resolution, '') AS resolution,
    kiti_now() AS now
FROM reconciliation_break
WHERE id = %(id)s;

-- Days of which something is open still: they are compared again until it is gone.
-- days_with_breaks :many
SELECT DISTINCT day FROM reconciliation_break
WHERE gateway = %(gateway)s AND sides = any(%(sides)s::text[]) AND resolved_at IS NULL AND day >= %(first)s
ORDER BY day
LIMIT 100;

-- Of two who take a break on at once the first has it.
-- assign_break :execute
UPDATE reconciliation_break SET assigned_to = %(assignee)s
WHERE id = %(id)s AND resolved_at IS NULL AND assigned_to = %(was)s;

-- close_break :execute
UPDATE reconciliation_break SET resolved_at = kiti_now(), resolved_by = %(actor)s, resolution = %(resolution)s
WHERE id = %(id)s AND resolved_at IS NULL;

-- note_run :execute
INSERT INTO reconciliation_run (
    id, began_at, ended_at, days, transactions, settlements, repaired, silent, still_open
)
VALUES (
    %(id)s, %(began_at)s, kiti_now(), %(days)s, %(transactions)s, %(settlements)s, %(repaired)s, %(silent)s,
    (
        SELECT count(*) FROM reconciliation_break
        WHERE resolved_at IS NULL
    )
);

-- runs :many
SELECT
    began_at,
    ended_at,
    days,
    transactions,
    settlements,
    repaired,
    silent,
    still_open
FROM reconciliation_run
ORDER BY id DESC
LIMIT %(limit)s;

-- All refunds of some states, the newest first. An operator sees its own part, as the ledger has it.
-- refund_lines :many
SELECT
    refund.id,
    refund.booking_id,
    booking.reference,
    CASE WHEN %(operator)s::uuid IS NULL THEN refund.amount ELSE part.amount END AS amount,
    refund.currency,
    refund.gateway,
    refund.reason,
    refund.state,
    coalesce(refund.failure_reason, '') AS failure_reason,
    refund.created_at
FROM refund
INNER JOIN booking ON refund.booking_id = booking.id
LEFT JOIN LATERAL (
    SELECT sum(transfer.amount)::bigint AS amount FROM transfer
    WHERE
        transfer.booking_id = refund.booking_id AND transfer.event = 'refund_requested:' || refund.id::text
        AND split_part(transfer.debit, ':', 2) = %(operator)s::uuid::text
) AS part ON TRUE
WHERE
    refund.created_at >= %(since)s AND (refund.created_at, refund.id) < (%(before_at)s, %(before_id)s::uuid)
    AND refund.state = any(%(states)s::text[])
    AND (%(operator)s::uuid IS NULL OR part.amount IS NOT NULL)
ORDER BY refund.created_at DESC, refund.id DESC
LIMIT %(limit)s;

-- Whatever is said about the currency of a booking, by its operators or for all, where its journey begins or anywhere.
-- options_of_booking :many
SELECT
    payment_option.id,
    payment_option.operator_id,
    payment_option.currency,
    payment_option.country,
    payment_option.method,
    payment_option.gateway,
    payment_option.priority,
    payment_option.is_on
FROM payment_option
INNER JOIN booking ON payment_option.currency = booking.currency
WHERE
    booking.id = %(booking)s
    AND (
        payment_option.operator_id IS NULL
        OR payment_option.operator_id IN (
            SELECT booking_seat.operator_id FROM booking_seat
            WHERE booking_seat.booking_id = %(booking)s
        )
    )
    AND (
        payment_option.country IS NULL
        OR payment_option.country = (
            SELECT stop.country
            FROM booking_seat
            INNER JOIN trip_stop ON booking_seat.trip_id = trip_stop.trip_id AND booking_seat.from_seq = trip_stop.seq
            INNER JOIN stop ON trip_stop.stop_id = stop.id
            WHERE booking_seat.booking_id = %(booking)s
            ORDER BY trip_stop.departs_at
            LIMIT 1
        )
    )
ORDER BY payment_option.priority, payment_option.id;

-- options :many
SELECT
    payment_option.id,
    payment_option.operator_id,
    coalesce(operator.code, '') AS operator_code,
    payment_option.currency,
    payment_option.country,
    payment_option.method,
    payment_option.gateway,
    payment_option.priority,
    payment_option.is_on
FROM payment_option
LEFT JOIN operator ON payment_option.operator_id = operator.id
ORDER BY
    payment_option.currency, operator_code, payment_option.country NULLS FIRST, payment_option.method,
    payment_option.priority, payment_option.gateway;

-- put_option :execute
INSERT INTO payment_option (id, operator_id, currency, country, method, gateway, priority, is_on)
VALUES (
    %(id)s, %(operator)s, %(currency)s, %(country)s, %(method)s, %(gateway)s, %(priority)s, %(is_on)s
)
ON CONFLICT (operator_id, currency, country, method, gateway) DO UPDATE
    SET priority = excluded.priority, is_on = excluded.is_on;

-- drop_option :execute
DELETE FROM payment_option
WHERE id = %(id)s;
