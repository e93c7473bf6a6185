-- What is posted stays as it was posted; a gateway that tells it differently afterwards is told of as a break.
-- put_settlement :execute
INSERT INTO gateway_settlement AS known (
    settlement_id, gateway, id, day, currency, gross_exact, fee_exact, refund_exact, chargeback_exact, cost_exact,
    payout_exact, net_exact, is_paid, found_at
)
VALUES (
    %(settlement_id)s, %(gateway)s, %(id)s, %(day)s, %(currency)s, %(gross)s::text::numeric,
    %(fee)s::text::numeric, %(refund)s::text::numeric, %(chargeback)s::text::numeric, %(cost)s::text::numeric,
    %(payout)s::text::numeric, %(net)s::text::numeric, %(is_paid)s, kiti_now()
)
ON CONFLICT (settlement_id, gateway) DO UPDATE SET
    day = excluded.day,
    currency = excluded.currency,
    gross_exact = excluded.gross_exact,
    fee_exact = excluded.fee_exact,
    refund_exact = excluded.refund_exact,
    chargeback_exact = excluded.chargeback_exact,
    cost_exact = excluded.cost_exact,
    payout_exact = excluded.payout_exact,
    net_exact = excluded.net_exact,
    is_paid = excluded.is_paid
WHERE known.posted_at IS NULL;

-- Rows are written in key order, so that two who import the same settlement do not deadlock.
-- put_lines :execute
INSERT INTO gateway_settlement_line AS known (
    transaction_id, gateway, settlement_id, reference, gross_exact, fee_exact
)
SELECT
    told.transaction_id,
    %(gateway)s,
    %(settlement_id)s,
    told.reference,
    told.gross::numeric,
    told.fee::numeric
FROM
    unnest(%(transactions)s::text[], %(references)s::text[], %(gross)s::text[], %(fees)s::text[])
        AS told (transaction_id, reference, gross, fee)
ORDER BY told.transaction_id
ON CONFLICT (transaction_id, gateway, settlement_id) DO UPDATE
    SET reference = excluded.reference, gross_exact = excluded.gross_exact, fee_exact = excluded.fee_exact;

-- Whoever posts a settlement has it alone.
-- lock_settlement :maybe
SELECT
    settlement_id,
    gateway,
    id,
    day,
    currency,
    gross_exact,
    fee_exact,
    refund_exact,
    chargeback_exact,
    cost_exact,
    payout_exact,
    net_exact,
    is_paid,
    posted_at IS NOT NULL AS is_posted,
    refund_rest,
    dispute_rest,
    contradiction
FROM gateway_settlement
WHERE settlement_id = %(settlement_id)s AND gateway = %(gateway)s
FOR UPDATE;

-- settlement :maybe
SELECT
    settlement_id,
    gateway,
    id,
    day,
    currency,
    gross_exact,
    fee_exact,
    refund_exact,
    chargeback_exact,
    cost_exact,
    payout_exact,
    net_exact,
    is_paid,
    posted_at IS NOT NULL AS is_posted,
    refund_rest,
    dispute_rest,
    contradiction
FROM gateway_settlement
WHERE settlement_id = %(settlement_id)s AND gateway = %(gateway)s;

-- settlements_since :many
SELECT
    settlement_id,
    gateway,
    id,
    day,
    currency,
    gross_exact,
    fee_exact,
    refund_exact,
    chargeback_exact,
    cost_exact,
    payout_exact,
    net_exact,
    is_paid,
    posted_at IS NOT NULL AS is_posted,
    refund_rest,
    dispute_rest,
    contradiction
FROM gateway_settlement
WHERE gateway = %(gateway)s AND day >= %(first)s
ORDER BY day, settlement_id
LIMIT %(limit)s;

-- settle_items :execute
INSERT INTO settled_item (booking_id, gateway, kind, item_id, settlement_id, amount, settled_at)
SELECT
    item.booking_id,
    %(gateway)s,
    item.kind,
    item.item_id,
    %(settlement_id)s,
    item.amount,
    kiti_now() AS settled_at
FROM
    unnest(%(bookings)s::uuid[], %(kinds)s::text[], %(items)s::text[], %(amounts)s::bigint[])
        AS item (booking_id, kind, item_id, amount);

-- posted :execute
UPDATE gateway_settlement SET
    posted_at = coalesce(posted_at, kiti_now()),
    refund_rest = %(refund_rest)s,
    dispute_rest = %(dispute_rest)s,
    contradiction = %(contradiction)s
WHERE settlement_id = %(settlement_id)s AND gateway = %(gateway)s;

-- Of two settlements of a gateway only one looks at a time for the refunds that it has held back.
-- serialise_attribution :execute
SELECT pg_advisory_xact_lock(hashtextextended('kiti settlements of ' || %(gateway)s::text, 0));

-- settled_in :many
SELECT
    item_id,
    amount
FROM settled_item
WHERE settlement_id = %(settlement_id)s AND gateway = %(gateway)s AND kind = 'charge';

-- Charges of these transactions which this settlement has not settled yet; `borne` is a fee that the traveller paid
-- on top of the amount, so that it is no cost of ours.
-- charges_to_settle :many
SELECT
    charge.booking_id,
    charge.transaction_id,
    charge.amount
FROM charge
WHERE
    charge.transaction_id = any(%(transactions)s::text[]) AND charge.gateway = %(gateway)s
    AND charge.currency = %(currency)s
    AND NOT EXISTS (
        SELECT 1 FROM settled_item
        WHERE
            settled_item.booking_id = charge.booking_id AND settled_item.gateway = charge.gateway
            AND settled_item.kind = 'charge' AND settled_item.item_id = charge.transaction_id
            AND settled_item.settlement_id = %(settlement_id)s
    )
ORDER BY charge.booking_id, charge.transaction_id;

-- Refunds that the gateway may have held back: asked for, not failed, in no settlement yet.
-- unsettled_refunds :many
SELECT
    refund.booking_id,
    'refund' AS kind,
    refund.id::text AS item_id,
    coalesce(refund.gateway_refund_id, '') AS gateway_id,
    refund.amount AS held_back
FROM refund
WHERE
    refund.gateway = %(gateway)s AND refund.currency = %(currency)s
    AND refund.state IN ('submitting', 'unknown', 'pending', 'succeeded', 'needs_attention')
    AND refund.created_at >= %(since)s
    AND NOT EXISTS (
        SELECT 1 FROM settled_item
        WHERE
            settled_item.booking_id = refund.booking_id AND settled_item.gateway = refund.gateway
            AND settled_item.kind = 'refund' AND settled_item.item_id = refund.id::text
    )
ORDER BY (refund.state = 'succeeded') DESC, refund.created_at, refund.id ASC
LIMIT %(limit)s;

-- Disputes whose amount the gateway may have held back; and those won that it may have given back since.
-- unsettled_disputes :many
SELECT
    dispute.booking_id,
    CASE WHEN held.item_id IS NULL THEN 'dispute' ELSE 'dispute_return' END AS kind,
    dispute.id::text AS item_id,
    dispute.dispute_id AS gateway_id,
    CASE WHEN held.item_id IS NULL THEN dispute.amount ELSE -dispute.amount END AS held_back
FROM dispute
LEFT JOIN settled_item AS held
    ON
        dispute.booking_id = held.booking_id AND dispute.gateway = held.gateway
        AND held.kind = 'dispute' AND held.item_id = dispute.id::text
LEFT JOIN settled_item AS returned
    ON
        dispute.booking_id = returned.booking_id AND dispute.gateway = returned.gateway
        AND returned.kind = 'dispute_return' AND returned.item_id = dispute.id::text
WHERE
    dispute.gateway = %(gateway)s AND dispute.currency = %(currency)s AND dispute.opened_at >= %(since)s
    AND returned.item_id IS NULL
    AND (held.item_id IS NULL) = (dispute.state <> 'won')
ORDER BY dispute.opened_at, dispute.id
LIMIT %(limit)s;

-- ------------------------------------------------------------------ the comparison

-- Transactions that a gateway has paid out and we have no charge for.
-- unknown_lines :many
SELECT
    line.transaction_id,
    line.settlement_id,
    settlement.day,
    settlement.currency,
    line.reference,
    line.gross_exact
FROM gateway_settlement_line AS line
INNER JOIN gateway_settlement AS settlement
    ON line.settlement_id = settlement.settlement_id AND line.gateway = settlement.gateway
WHERE
    line.gateway = %(gateway)s AND settlement.day >= %(first)s
    AND NOT EXISTS (
        SELECT 1 FROM charge
        WHERE charge.transaction_id = line.transaction_id AND charge.gateway = line.gateway
    )
ORDER BY settlement.day, line.transaction_id
LIMIT %(limit)s;

-- Where a settlement tells another amount or another fee of a charge. A traveller who bore the fee has paid it on top.
-- differing_lines :many
SELECT
    line.transaction_id,
    line.settlement_id,
    settlement.day,
    settlement.currency AS told_currency,
    charge.booking_id,
    charge.currency,
    line.gross_exact,
    charge.amount,
    line.fee_exact AS told_fee,
    charge.fee_exact
FROM gateway_settlement_line AS line
INNER JOIN gateway_settlement AS settlement
    ON line.settlement_id = settlement.settlement_id AND line.gateway = settlement.gateway
INNER JOIN charge ON line.transaction_id = charge.transaction_id AND line.gateway = charge.gateway
WHERE
    line.gateway = %(gateway)s AND settlement.day >= %(first)s
    AND (
        settlement.currency <> charge.currency OR line.fee_exact <> charge.fee_exact
        OR NOT (line.gross_exact = charge.amount OR line.gross_exact = charge.amount + line.fee_exact)
    )
ORDER BY settlement.day, line.transaction_id
LIMIT %(limit)s;

-- One transaction in several settlements.
-- settled_twice :many
SELECT
    line.transaction_id,
    min(charge.booking_id::text)::uuid AS booking_id,
    max(settlement.day) AS day,
    string_agg(line.settlement_id, ', ' ORDER BY settlement.day, line.settlement_id) AS settlements
FROM gateway_settlement_line AS line
INNER JOIN gateway_settlement AS settlement
    ON line.settlement_id = settlement.settlement_id AND line.gateway = settlement.gateway
LEFT JOIN charge ON line.transaction_id = charge.transaction_id AND line.gateway = charge.gateway
WHERE line.gateway = %(gateway)s
GROUP BY line.transaction_id
HAVING count(DISTINCT line.settlement_id) > 1 AND max(settlement.day) >= %(first)s
ORDER BY line.transaction_id
LIMIT %(limit)s;

-- Money that the gateway should have paid into the bank by now.
-- unsettled_charges :many
SELECT
    charge.transaction_id,
    charge.booking_id,
    charge.captured_at
FROM charge
WHERE
    charge.gateway = %(gateway)s AND charge.captured_at >= %(since)s AND charge.captured_at < %(until)s
    AND NOT EXISTS (
        SELECT 1 FROM gateway_settlement_line AS line
        WHERE line.transaction_id = charge.transaction_id AND line.gateway = charge.gateway
    )
ORDER BY charge.captured_at, charge.transaction_id
LIMIT %(limit)s;

-- What stands in gateway_clearing for each transaction that was settled since a day: nothing, but for refunds and
-- disputes that a settlement has still to hold back (`on_the_way`).
-- clearing :many
SELECT
    settled.booking_id,
    settled.transaction_id,
    settled.day,
    charge.currency,
    posted.clearing,
    coalesce(refunds.on_the_way, 0)::bigint + coalesce(disputes.on_the_way, 0)::bigint AS on_the_way
FROM (
    SELECT
        item.booking_id,
        item.item_id AS transaction_id,
        max(settlement.day) AS day
    FROM gateway_settlement AS settlement
    INNER JOIN settled_item AS item
        ON settlement.settlement_id = item.settlement_id AND settlement.gateway = item.gateway
    WHERE settlement.gateway = %(gateway)s AND settlement.day >= %(first)s AND item.kind = 'charge'
    GROUP BY item.booking_id, item.item_id
) AS settled
INNER JOIN charge
    ON
        settled.booking_id = charge.booking_id AND charge.gateway = %(gateway)s
        AND settled.transaction_id = charge.transaction_id
CROSS JOIN
    LATERAL (
        SELECT
            coalesce(sum(
                CASE
                    WHEN transfer.debit = 'gateway_clearing:' || charge.gateway THEN transfer.amount
                    ELSE -transfer.amount
                END
            ), 0)::bigint AS clearing
        FROM transfer
        WHERE
            transfer.booking_id = charge.booking_id AND transfer.currency = charge.currency
            AND 'gateway_clearing:' || charge.gateway IN (transfer.debit, transfer.credit)
            AND (
                transfer.event IN (
                    SELECT told.event FROM (
                        SELECT 'capture:' || charge.gateway || ':' || charge.transaction_id AS event
                        UNION ALL
                        SELECT step.name || ':' || refund.id::text AS event
                        FROM refund
                        CROSS JOIN (VALUES ('refund_done'), ('refund_settled')) AS step (name)
                        WHERE refund.booking_id = charge.booking_id AND refund.transaction_id = charge.transaction_id
                        UNION ALL
                        SELECT step.name || ':' || dispute.id::text AS event
                        FROM dispute
                        CROSS JOIN (
                            VALUES ('dispute_opened'), ('dispute_won'), ('dispute_settled'), ('dispute_return_settled')
                        ) AS step (name)
                        WHERE dispute.booking_id = charge.booking_id AND dispute.transaction_id = charge.transaction_id
                    ) AS told
                )
                OR (
                    starts_with(transfer.event, 'gateway_settled:' || charge.gateway || ':')
                    AND right(transfer.event, length(charge.transaction_id) + 1) = ':' || charge.transaction_id
                )
            )
    ) AS posted
LEFT JOIN LATERAL (
    SELECT
        sum(
            CASE WHEN refund.state = 'succeeded' THEN -refund.amount ELSE 0 END
            + CASE WHEN item.item_id IS NULL THEN 0 ELSE refund.amount END
        ) AS on_the_way
    FROM refund
    LEFT JOIN settled_item AS item
        ON
            refund.booking_id = item.booking_id AND refund.gateway = item.gateway
            AND item.kind = 'refund' AND item.item_id = refund.id::text
    WHERE refund.booking_id = charge.booking_id AND refund.transaction_id = charge.transaction_id
) AS refunds ON TRUE
LEFT JOIN LATERAL (
    SELECT
        sum(
            CASE WHEN dispute.state = 'won' THEN 0 ELSE -dispute.amount END
            + coalesce((
                SELECT sum(-item.amount) FROM settled_item AS item
                WHERE
                    item.booking_id = dispute.booking_id AND item.gateway = dispute.gateway
                    AND item.kind IN ('dispute', 'dispute_return') AND item.item_id = dispute.id::text
            ), 0)
        ) AS on_the_way
    FROM dispute
    WHERE dispute.booking_id = charge.booking_id AND dispute.transaction_id = charge.transaction_id
) AS disputes ON TRUE
WHERE posted.clearing <> 0 OR refunds.on_the_way <> 0 OR disputes.on_the_way <> 0
ORDER BY settled.day, settled.transaction_id
LIMIT %(limit)s;

-- How a settlement stands: what was paid into the bank for it, by the bank's own word.
-- standings :many
SELECT
    settlement.settlement_id,
    settlement.gateway,
    settlement.id,
    settlement.day,
    settlement.currency,
    settlement.gross_exact,
    settlement.fee_exact,
    settlement.refund_exact,
    settlement.chargeback_exact,
    settlement.cost_exact,
    settlement.payout_exact,
    settlement.net_exact,
    settlement.is_paid,
    settlement.posted_at IS NOT NULL AS is_posted,
    settlement.refund_rest,
    settlement.dispute_rest,
    settlement.contradiction,
    count(line.digest) AS bank_lines,
    coalesce(sum(line.amount), 0)::bigint AS bank_amount,
    max(statement.last_day) AS statement_day
FROM gateway_settlement AS settlement
LEFT JOIN bank_line AS line
    ON settlement.settlement_id = line.settlement_id AND settlement.gateway = line.gateway
LEFT JOIN LATERAL (
    SELECT max(any_line.day) AS last_day FROM bank_line AS any_line
    WHERE any_line.currency = settlement.currency
) AS statement ON TRUE
WHERE settlement.gateway = %(gateway)s AND settlement.day >= %(first)s
GROUP BY settlement.settlement_id, settlement.gateway
ORDER BY settlement.day, settlement.settlement_id
LIMIT %(limit)s;

-- The settlements that a transaction is in.
-- lines_of :many
SELECT
    line.transaction_id,
    line.settlement_id,
    settlement.day,
    settlement.currency,
    settlement.is_paid,
    line.gross_exact,
    line.fee_exact
FROM gateway_settlement_line AS line
INNER JOIN gateway_settlement AS settlement
    ON line.settlement_id = settlement.settlement_id AND line.gateway = settlement.gateway
WHERE line.transaction_id = %(transaction_id)s AND line.gateway = %(gateway)s
ORDER BY settlement.day, line.settlement_id
LIMIT 20;

-- ------------------------------------------------------------------ bank statements

-- import_lines :many
INSERT INTO bank_line (digest, day, amount, currency, reference, text, imported_at, imported_by)
SELECT
    new.digest,
    new.day,
    new.amount,
    new.currency,
    new.reference,
    new.text,
    kiti_now() AS imported_at,
    %(actor)s
FROM
    unnest(
        %(digests)s::bytea[], %(days)s::date[], %(amounts)s::bigint[], %(currencies)s::text[], %(references)s::text[],
        %(texts)s::text[]
    ) AS new (digest, day, amount, currency, reference, text)
ORDER BY new.digest
ON CONFLICT (digest) DO NOTHING
RETURNING digest;

-- Money that came in and is no settlement's yet.
-- unmatched_lines :many
SELECT
    digest,
    day,
    amount,
    currency,
    reference,
    text
FROM bank_line
WHERE settlement_id IS NULL AND amount > 0 AND day >= %(first)s
ORDER BY day, digest
LIMIT %(limit)s;

-- match_line :execute
UPDATE bank_line SET gateway = %(gateway)s, settlement_id = %(settlement_id)s
WHERE digest = %(digest)s AND settlement_id IS NULL;

-- bank_lines_of :many
SELECT
    digest,
    day,
    amount,
    currency,
    reference,
    text
FROM bank_line
WHERE settlement_id = %(settlement_id)s AND gateway = %(gateway)s
ORDER BY day, digest
LIMIT 20;
