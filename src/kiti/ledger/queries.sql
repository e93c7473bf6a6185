-- post :execute
INSERT INTO transfer (booking_id, id, event, line, debit, credit, amount, currency, posted_at)
SELECT
    entry.booking_id,
    entry.id,
    entry.event,
    entry.line,
    entry.debit,
    entry.credit,
    entry.amount,
    entry.currency,
    kiti_now() AS posted_at
FROM unnest(
    %(bookings)s::uuid[], %(ids)s::uuid[], %(events)s::text[], %(lines)s::smallint[], %(debits)s::text[],
    %(credits)s::text[], %(amounts)s::bigint[], %(currencies)s::text[]
) AS entry (booking_id, id, event, line, debit, credit, amount, currency);

-- Debits minus credits of every account; of all accounts of a currency they sum to nothing.
-- balances :many
SELECT
    side.account,
    side.currency,
    sum(side.amount)::bigint AS balance
FROM (
    SELECT
        debit AS account,
        currency,
        amount
    FROM transfer
    UNION ALL
    SELECT
        credit AS account,
        currency,
        -amount AS amount
    FROM transfer
) AS side
GROUP BY side.account, side.currency
ORDER BY side.account, side.currency;

-- Charges whose capture is not in the ledger to the minor unit.
-- uncovered_charges :many
SELECT
    charge.booking_id,
    charge.transaction_id,
    charge.amount,
    coalesce(sum(transfer.amount), 0)::bigint AS posted
FROM charge
LEFT JOIN transfer
    ON
        charge.booking_id = transfer.booking_id
        AND transfer.event = 'capture:' || charge.gateway || ':' || charge.transaction_id
        AND transfer.credit LIKE 'ticket_liability:%%'
GROUP BY charge.booking_id, charge.gateway, charge.transaction_id, charge.amount
HAVING coalesce(sum(transfer.amount), 0) <> charge.amount
ORDER BY charge.booking_id
LIMIT 100;

-- posted_below :many
SELECT
    event,
    debit,
    credit,
    amount,
    currency,
    posted_at
FROM transfer
WHERE booking_id = %(booking)s
ORDER BY posted_at, event, line
LIMIT 200;

-- Nobody can owe travellers less than nothing: somebody's money went back in another's name.
-- overdrawn :many
SELECT
    side.booking_id,
    side.account,
    side.currency,
    sum(side.amount)::bigint AS amount
FROM (
    SELECT
        booking_id,
        credit AS account,
        currency,
        amount
    FROM transfer
    WHERE credit LIKE 'ticket_liability:%%'
    UNION ALL
    SELECT
        booking_id,
        debit AS account,
        currency,
        -amount AS amount
    FROM transfer
    WHERE debit LIKE 'ticket_liability:%%'
) AS side
GROUP BY side.booking_id, side.account, side.currency
HAVING sum(side.amount) < 0
ORDER BY side.booking_id
LIMIT 100;

-- lines_of :many
SELECT
    booking_id,
    event,
    debit,
    credit,
    amount,
    currency
FROM transfer
WHERE booking_id = any(%(bookings)s::uuid[])
ORDER BY booking_id, posted_at, event, line;

-- What was posted within a span of time, the entries of an event together.
-- posted_between :many
SELECT
    booking_id,
    event,
    debit,
    credit,
    amount,
    currency,
    posted_at,
    line
FROM transfer
WHERE
    posted_at >= %(since)s AND posted_at < %(until)s
    AND (posted_at, booking_id, event, line)
    > (%(after_at)s, %(after)s::uuid, %(after_event)s, %(after_line)s::smallint)
ORDER BY posted_at, booking_id, event, line
LIMIT %(limit)s;

-- balances_before :many
SELECT
    side.account,
    side.currency,
    sum(side.amount)::bigint AS balance
FROM (
    SELECT
        debit AS account,
        currency,
        amount
    FROM transfer
    WHERE posted_at < %(moment)s
    UNION ALL
    SELECT
        credit AS account,
        currency,
        -amount AS amount
    FROM transfer
    WHERE posted_at < %(moment)s
) AS side
GROUP BY side.account, side.currency
HAVING sum(side.amount) <> 0
ORDER BY side.account, side.currency;

-- From when to when there is anything at all.
-- posted_extent :one
SELECT
    min(posted_at) AS first_at,
    max(posted_at) AS last_at
FROM transfer;
