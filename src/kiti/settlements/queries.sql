-- put_terms :execute
INSERT INTO settlement_terms (
    operator_id, currency, period, minimum_payout, gateway, kind, country, bank, account, account_name, set_by, set_at
)
VALUES (
    %(operator)s, %(currency)s, %(period)s, %(minimum_payout)s, %(gateway)s, %(kind)s, %(country)s, %(bank)s,
    %(account)s, %(account_name)s, %(set_by)s, kiti_now()
)
ON CONFLICT (operator_id, currency) DO UPDATE SET
    period = excluded.period,
    minimum_payout = excluded.minimum_payout,
    gateway = excluded.gateway,
    kind = excluded.kind,
    country = excluded.country,
    bank = excluded.bank,
    account = excluded.account,
    account_name = excluded.account_name,
    set_by = excluded.set_by,
    set_at = excluded.set_at;

-- terms_of :many
SELECT
    operator_id,
    currency,
    period,
    minimum_payout,
    gateway,
    kind,
    country,
    bank,
    account,
    account_name,
    set_by
FROM settlement_terms
WHERE operator_id = %(operator)s
ORDER BY currency;

-- Whoever makes a statement of an operator waits here for another that does. Trips and the like refer to the row, and
-- may go on doing so.
-- lock_operator :one
SELECT id FROM operator
WHERE id = %(operator)s
FOR NO KEY UPDATE;

-- settled_until :one
SELECT max(ends_at) AS ends_at FROM settlement
WHERE operator_id = %(operator)s AND currency = %(currency)s;

-- Operators with entries that no statement has, and the first of them by currency. What was posted as a period ended
-- may have been committed after its statement was made, so a week before that is looked at again.
-- unsettled :many
SELECT
    operator.id AS operator_id,
    operator.timezone,
    currency.code AS currency,
    coalesce(settlement_terms.period, 'monthly') AS period,
    coalesce(settlement_terms.minimum_payout, 0) AS minimum_payout,
    settled.until AS settled_until,
    entry.posted_at AS first_at,
    kiti_now() AS now
FROM operator
CROSS JOIN unnest(%(currencies)s::text[]) AS currency (code)
LEFT JOIN settlement_terms
    ON operator.id = settlement_terms.operator_id AND settlement_terms.currency = currency.code::char(3)
CROSS JOIN
    LATERAL (
        SELECT max(settlement.ends_at) AS until FROM settlement
        WHERE settlement.operator_id = operator.id AND settlement.currency = currency.code::char(3)
    ) AS settled
CROSS JOIN
    LATERAL (
        SELECT min(side.posted_at) AS posted_at
        FROM (
            SELECT
                transfer.booking_id,
                transfer.id,
                transfer.posted_at
            FROM transfer
            WHERE
                transfer.credit = 'operator_payable:' || operator.id
                AND transfer.credit LIKE 'operator\_payable:%%'
                AND transfer.debit NOT LIKE 'payout\_in\_transit:%%'
                AND transfer.currency = currency.code::char(3)
                AND transfer.posted_at >= coalesce(settled.until - interval '7 days', '-infinity')
            UNION ALL
            SELECT
                transfer.booking_id,
                transfer.id,
                transfer.posted_at
            FROM transfer
            WHERE
                transfer.debit = 'operator_payable:' || operator.id
                AND transfer.debit LIKE 'operator\_payable:%%'
                AND transfer.credit NOT LIKE 'payout\_in\_transit:%%'
                AND transfer.currency = currency.code::char(3)
                AND transfer.posted_at >= coalesce(settled.until - interval '7 days', '-infinity')
        ) AS side
        WHERE
            NOT EXISTS (
                SELECT 1 FROM settlement_line
                WHERE settlement_line.booking_id = side.booking_id AND settlement_line.transfer_id = side.id
            )
    ) AS entry
WHERE entry.posted_at IS NOT NULL
ORDER BY entry.posted_at, operator.id, currency.code;

-- open_settlement :execute
INSERT INTO settlement (
    id, operator_id, currency, period, starts_at, ends_at, timezone, state,
    gross, refunds, commission, fees, other, carried, net, made_at
)
VALUES (
    %(id)s, %(operator)s, %(currency)s, %(period)s, %(starts_at)s, %(ends_at)s, %(timezone)s, 'carried',
    0, 0, 0, 0, 0, 0, 0, kiti_now()
);

-- A page of the entries that belong into a statement. What kind each is shows on its other side.
-- take_lines :many
WITH side AS (
    SELECT
        booking_id,
        id,
        event,
        debit AS other,
        amount,
        posted_at
    FROM transfer
    WHERE
        credit = 'operator_payable:' || %(operator)s::uuid
        AND credit LIKE 'operator\_payable:%%'
        AND debit NOT LIKE 'payout\_in\_transit:%%'
        AND currency = %(currency)s::char(3)
        AND posted_at >= %(since)s AND posted_at < %(ends_at)s
    UNION ALL
    SELECT
        booking_id,
        id,
        event,
        credit AS other,
        -amount AS amount,
        posted_at
    FROM transfer
    WHERE
        debit = 'operator_payable:' || %(operator)s::uuid
        AND debit LIKE 'operator\_payable:%%'
        AND credit NOT LIKE 'payout\_in\_transit:%%'
        AND currency = %(currency)s::char(3)
        AND posted_at >= %(since)s AND posted_at < %(ends_at)s
),

page AS (
    SELECT
        side.booking_id,
        side.id,
        side.event,
        side.other,
        side.amount,
        side.posted_at
    FROM side
    WHERE
        NOT EXISTS (
            SELECT 1 FROM settlement_line
            WHERE settlement_line.booking_id = side.booking_id AND settlement_line.transfer_id = side.id
        )
    ORDER BY side.posted_at
    LIMIT %(limit)s
),

taken AS (
    INSERT INTO settlement_line (booking_id, transfer_id, settlement_id, trip_id, kind, amount)
    SELECT
        page.booking_id,
        page.id,
        %(settlement)s AS settlement_id,
        substring(page.event FROM '^(?:reversal:)*departed:(.+)$')::uuid AS trip_id,
        CASE split_part(page.other, ':', 1)
            WHEN 'ticket_liability' THEN 'gross'
            WHEN 'refund_clearing' THEN 'refund'
            WHEN 'platform_commission' THEN 'commission'
            WHEN 'gateway_fee' THEN 'fee'
            ELSE 'other'
        END AS kind,
        page.amount
    FROM page
    RETURNING kind, amount
)

SELECT
    kind,
    count(*) AS lines,
    sum(amount)::bigint AS amount,
    (SELECT max(page.posted_at) FROM page) AS until
FROM taken
GROUP BY kind;

-- carry :many
UPDATE settlement SET carried_into = %(taker)s
WHERE
    operator_id = %(operator)s AND currency = %(currency)s
    AND state = 'carried' AND carried_into IS NULL AND id <> %(taker)s
RETURNING net;

-- set_totals :execute
UPDATE settlement SET
    state = %(state)s,
    gross = %(gross)s,
    refunds = %(refunds)s,
    commission = %(commission)s,
    fees = %(fees)s,
    other = %(other)s,
    carried = %(carried)s,
    net = %(net)s
WHERE id = %(id)s AND state = 'carried' AND carried_into IS NULL;

-- by_id :maybe
SELECT
    settlement.id,
    settlement.operator_id,
    operator.code AS operator_code,
    operator.name AS operator_name,
    settlement.currency,
    settlement.period,
    settlement.starts_at,
    settlement.ends_at,
    settlement.timezone,
    settlement.state,
    settlement.attempts,
    settlement.gross,
    settlement.refunds,
    settlement.commission,
    settlement.fees,
    settlement.other,
    settlement.carried,
    settlement.net,
    settlement.carried_into,
    settlement.made_at,
    settlement.approved_by,
    settlement.approved_at,
    settlement.gateway,
    settlement.kind,
    settlement.country,
    settlement.bank,
    settlement.account,
    settlement.account_name
FROM settlement
INNER JOIN operator ON settlement.operator_id = operator.id
WHERE settlement.id = %(id)s;

-- The newest first; ids are in the order of time.
-- page :many
SELECT
    settlement.id,
    settlement.operator_id,
    operator.code AS operator_code,
    operator.name AS operator_name,
    settlement.currency,
    settlement.period,
    settlement.starts_at,
    settlement.ends_at,
    settlement.timezone,
    settlement.state,
    settlement.attempts,
    settlement.gross,
    settlement.refunds,
    settlement.commission,
    settlement.fees,
    settlement.other,
    settlement.carried,
    settlement.net,
    settlement.carried_into,
    settlement.made_at,
    settlement.approved_by,
    settlement.approved_at,
    settlement.gateway,
    settlement.kind,
    settlement.country,
    settlement.bank,
    settlement.account,
    settlement.account_name
FROM settlement
INNER JOIN operator ON settlement.operator_id = operator.id
WHERE
    (%(operator)s::uuid IS NULL OR settlement.operator_id = %(operator)s)
    AND (%(code)s::text = '' OR operator.code = %(code)s)
    AND (%(state)s::text = '' OR settlement.state = %(state)s)
    AND (
        %(since)s::date IS NULL
        OR (settlement.ends_at AT TIME ZONE settlement.timezone)::date > %(since)s::date
    )
    AND (
        %(until)s::date IS NULL
        OR (settlement.starts_at AT TIME ZONE settlement.timezone)::date <= %(until)s::date
    )
    AND settlement.id < %(before)s
ORDER BY settlement.id DESC
LIMIT %(limit)s;

-- A page of a statement, by booking and trip. What is about no trip of a booking comes before its trips.
-- statement_lines :many
SELECT
    line.booking_id AS subject_id,
    line.trip_id,
    coalesce(booking.reference, '') AS reference,
    coalesce(route.code, '') AS route,
    trip.departs_at,
    line.gross,
    line.refund,
    line.commission,
    line.fee,
    line.other,
    line.net
FROM (
    SELECT
        booking_id,
        trip_id,
        coalesce(sum(amount) FILTER (WHERE kind = 'gross'), 0)::bigint AS gross,
        coalesce(sum(amount) FILTER (WHERE kind = 'refund'), 0)::bigint AS refund,
        coalesce(sum(amount) FILTER (WHERE kind = 'commission'), 0)::bigint AS commission,
        coalesce(sum(amount) FILTER (WHERE kind = 'fee'), 0)::bigint AS fee,
        coalesce(sum(amount) FILTER (WHERE kind = 'other'), 0)::bigint AS other,
        sum(amount)::bigint AS net
    FROM settlement_line
    WHERE
        settlement_id = %(settlement)s
        AND booking_id >= %(after)s
        AND (booking_id, coalesce(trip_id, '00000000-0000-0000-0000-000000000000')) > (%(after)s, %(after_trip)s)
    GROUP BY booking_id, trip_id
    ORDER BY booking_id, coalesce(trip_id, '00000000-0000-0000-0000-000000000000')
    LIMIT %(limit)s
) AS line
LEFT JOIN booking ON line.booking_id = booking.id
LEFT JOIN trip ON line.trip_id = trip.id
LEFT JOIN route ON trip.route_id = route.id
ORDER BY line.booking_id, coalesce(line.trip_id, '00000000-0000-0000-0000-000000000000');

-- approve :execute
UPDATE settlement SET
    state = 'approved',
    approved_by = %(by)s,
    approved_at = kiti_now(),
    gateway = %(gateway)s,
    kind = %(kind)s,
    country = %(country)s,
    bank = %(bank)s,
    account = %(account)s,
    account_name = %(account_name)s
WHERE id = %(id)s AND state = 'draft';

-- The number of attempts is part of what was seen: 'paying' again is not the 'paying' of before.
-- move :execute
UPDATE settlement SET
    state = %(to_state)s::text,
    attempts = attempts + CASE WHEN %(to_state)s::text = 'paying' THEN 1 ELSE 0 END
WHERE id = %(id)s AND state = %(from_state)s AND attempts = %(attempts)s;

-- open_payout :execute
INSERT INTO payout (
    id, settlement_id, operator_id, gateway, kind, country, bank, account, account_name, amount, currency, state,
    requested_by, created_at, act_after
)
VALUES (
    %(id)s, %(settlement)s, %(operator)s, %(gateway)s, %(kind)s, %(country)s, %(bank)s, %(account)s, %(account_name)s,
    %(amount)s, %(currency)s, 'requested', %(by)s, kiti_now(), kiti_now()
);

-- payout_by_id :maybe
SELECT
    id,
    settlement_id,
    operator_id,
    gateway,
    kind,
    country,
    bank,
    account,
    account_name,
    amount,
    currency,
    state,
    attempts,
    gateway_payout_id,
    fee_exact,
    failure_reason,
    requested_by,
    created_at,
    act_after,
    kiti_now() AS now
FROM payout
WHERE id = %(id)s;

-- payouts_of :many
SELECT
    id,
    settlement_id,
    operator_id,
    gateway,
    kind,
    country,
    bank,
    account,
    account_name,
    amount,
    currency,
    state,
    attempts,
    gateway_payout_id,
    fee_exact,
    failure_reason,
    requested_by,
    created_at,
    act_after,
    kiti_now() AS now
FROM payout
WHERE settlement_id = %(settlement)s
ORDER BY id
LIMIT 100;

-- move_payout :execute
UPDATE payout SET
    state = %(to_state)s::text,
    attempts = attempts + CASE WHEN %(to_state)s::text = 'submitting' THEN 1 ELSE 0 END,
    gateway_payout_id = coalesce(%(gateway_payout_id)s, gateway_payout_id),
    fee_exact = coalesce(%(fee_exact)s, fee_exact),
    failure_reason = %(failure_reason)s,
    act_after = kiti_now() + %(act_after_seconds)s::integer * interval '1 second'
WHERE id = %(id)s AND state = %(from_state)s AND attempts = %(attempts)s;

-- Where it has moved on, whoever moved it has said when to look again.
-- payout_later :execute
UPDATE payout SET act_after = kiti_now() + %(seconds)s::integer * interval '1 second'
WHERE id = %(id)s AND state = %(state)s AND attempts = %(attempts)s AND act_after IS NOT NULL;

-- postpone_payout :execute
UPDATE payout SET act_after = greatest(act_after, kiti_now() + %(seconds)s::integer * interval '1 second')
WHERE id = %(id)s AND act_after IS NOT NULL;

-- due_payouts :many
SELECT id FROM payout
WHERE act_after <= kiti_now()
ORDER BY act_after
LIMIT %(limit)s;

-- What waits for a person: statements to approve, to pay and to pay again, payouts to look at.
-- waiting :one
SELECT
    (
        SELECT count(*) FROM settlement
        WHERE state IN ('draft', 'approved', 'failed')
    )::integer AS settlements,
    (
        SELECT count(*) FROM payout
        WHERE state = 'needs_attention'
    )::integer AS payouts;

-- Entries that are older than a statement of their operator, long enough that it should have had them.
-- left_out :many
SELECT
    transfer.booking_id,
    transfer.event
FROM transfer
INNER JOIN (
    SELECT
        'operator_payable:' || operator_id AS account,
        currency,
        max(ends_at) AS ends_at
    FROM settlement
    GROUP BY operator_id, currency
) AS settled
    ON
        settled.account IN (transfer.debit, transfer.credit)
        AND transfer.currency = settled.currency
        AND transfer.posted_at < settled.ends_at - interval '7 days'
LEFT JOIN settlement_line
    ON transfer.booking_id = settlement_line.booking_id AND transfer.id = settlement_line.transfer_id
WHERE
    (transfer.debit LIKE 'operator\_payable:%%' OR transfer.credit LIKE 'operator\_payable:%%')
    AND transfer.debit NOT LIKE 'payout\_in\_transit:%%'
    AND transfer.credit NOT LIKE 'payout\_in\_transit:%%'
    AND settlement_line.transfer_id IS NULL
ORDER BY transfer.booking_id
LIMIT 100;

-- ------------------------------------------------------------------ accounts at gateways

-- ask_subaccount :execute
INSERT INTO subaccount (
    operator_id, gateway, bank, account, country, name, platform_percent, email, phone, asked_at
)
VALUES (
    %(operator)s, %(gateway)s, %(bank)s, %(account)s, %(country)s, %(name)s, %(percent)s::text::numeric, %(email)s,
    %(phone)s, kiti_now()
)
ON CONFLICT (operator_id, gateway, bank, account) DO NOTHING;

-- subaccount_opened :execute
UPDATE subaccount SET
    subaccount_id = %(subaccount_id)s,
    platform_percent = %(percent)s::text::numeric,
    opened_at = kiti_now()
WHERE
    operator_id = %(operator)s AND gateway = %(gateway)s AND bank = %(bank)s AND account = %(account)s
    AND subaccount_id IS NULL;

-- subaccount_refused :execute
DELETE FROM subaccount
WHERE
    operator_id = %(operator)s AND gateway = %(gateway)s AND bank = %(bank)s AND account = %(account)s
    AND subaccount_id IS NULL;

-- subaccounts :many
SELECT
    subaccount.operator_id,
    operator.code AS operator_code,
    subaccount.gateway,
    subaccount.bank,
    subaccount.account,
    subaccount.country,
    subaccount.name,
    subaccount.platform_percent,
    subaccount.email,
    subaccount.phone,
    subaccount.subaccount_id
FROM subaccount
INNER JOIN operator ON subaccount.operator_id = operator.id
WHERE %(operator)s::uuid IS NULL OR subaccount.operator_id = %(operator)s::uuid
ORDER BY operator.code, subaccount.gateway, subaccount.bank, subaccount.account
LIMIT 1000;
