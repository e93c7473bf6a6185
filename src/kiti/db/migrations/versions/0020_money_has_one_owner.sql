-- What was paid beyond the price, what of it went back, and that neither takes of the other, stand in the row itself.
-- What is in dispute is of neither until it is lost; before, it counted as the price.

ALTER TABLE charge ADD COLUMN excess bigint NOT NULL DEFAULT 0;
UPDATE charge SET excess = greatest(0, charge.amount - payment.amount - payment.fee)
FROM payment
WHERE
    charge.booking_id = payment.booking_id AND charge.payment_id = payment.id
    AND charge.purpose = 'fulfils' AND charge.amount > payment.amount + payment.fee;

ALTER TABLE charge DROP CONSTRAINT charge_excess_reserved_check;
UPDATE charge SET
    excess_reserved = greatest(
        refund_reserved - disputed - (amount - excess), least(excess_reserved, excess, refund_reserved - disputed)
    )
WHERE refund_reserved > 0;
ALTER TABLE charge
ADD CONSTRAINT charge_excess_check CHECK (excess BETWEEN 0 AND amount),
ADD CONSTRAINT charge_excess_reserved_check CHECK (excess_reserved BETWEEN 0 AND excess),
ADD CONSTRAINT charge_price_reserved_check CHECK (
    refund_reserved - disputed - excess_reserved BETWEEN 0 AND amount - excess
);

-- A trip that its operator cancelled is looked at too when it would have left: what was kept of seats that travellers
-- had given up before is earned then.
DROP INDEX trip_revenue_due;
CREATE INDEX trip_revenue_due ON trip (departs_at, id) WHERE revenue_at IS NULL;

-- Whose money it is of a seat that nobody will use, cancelled with its trip or its booking, is not known while the
-- payment is disputed, nor after that until a person has said what becomes of it.
CREATE VIEW undecided_trip AS
SELECT DISTINCT
    every_seat.booking_id,
    every_seat.trip_id
FROM dispute
INNER JOIN booking ON dispute.booking_id = booking.id
INNER JOIN every_seat ON dispute.booking_id = every_seat.booking_id
INNER JOIN trip ON every_seat.trip_id = trip.id
WHERE
    (dispute.state = 'open' OR dispute.attention <> '')
    AND (trip.state = 'cancelled' OR booking.state = 'cancelled');

-- Money that has bought nothing stood in the operators' names until now, by the shares of its capture; what came beyond
-- a price, by fares. It moves to where it is looked for from now on, as far as they still owe it: what they have
-- earned stays earned.
WITH idle AS (
    SELECT
        booking_id,
        gateway,
        transaction_id,
        purpose,
        currency,
        CASE purpose
            WHEN 'fulfils' THEN excess - excess_reserved
            ELSE amount - refund_reserved + disputed
        END AS amount
    FROM charge
),

weight AS (
    SELECT
        idle.booking_id,
        idle.gateway,
        idle.transaction_id,
        transfer.credit AS account,
        sum(transfer.amount) AS parts,
        sum(sum(transfer.amount)) OVER charged AS of_all
    FROM idle
    INNER JOIN transfer
        ON
            idle.booking_id = transfer.booking_id
            AND transfer.event = 'capture:' || idle.gateway || ':' || idle.transaction_id
            AND transfer.credit LIKE 'ticket_liability:%'
    WHERE idle.purpose <> 'fulfils'
    GROUP BY idle.booking_id, idle.gateway, idle.transaction_id, transfer.credit
    WINDOW charged AS (PARTITION BY idle.booking_id, idle.gateway, idle.transaction_id)
    UNION ALL
    SELECT
        idle.booking_id,
        idle.gateway,
        idle.transaction_id,
        'ticket_liability:' || every_seat.operator_id AS account,
        sum(every_seat.fare) AS parts,
        sum(sum(every_seat.fare)) OVER charged AS of_all
    FROM idle
    INNER JOIN every_seat ON idle.booking_id = every_seat.booking_id
    WHERE idle.purpose = 'fulfils'
    GROUP BY idle.booking_id, idle.gateway, idle.transaction_id, every_seat.operator_id
    WINDOW charged AS (PARTITION BY idle.booking_id, idle.gateway, idle.transaction_id)
),

-- By largest remainder, so that the parts add up.
cut AS (
    SELECT
        idle.booking_id,
        idle.gateway,
        idle.transaction_id,
        idle.currency,
        idle.amount,
        weight.account,
        div(idle.amount * weight.parts, weight.of_all) AS whole,
        row_number() OVER (
            PARTITION BY idle.booking_id, idle.gateway, idle.transaction_id
            ORDER BY mod(idle.amount * weight.parts, weight.of_all) DESC, weight.account
        ) AS place
    FROM idle
    INNER JOIN weight
        ON
            idle.booking_id = weight.booking_id
            AND idle.gateway = weight.gateway
            AND idle.transaction_id = weight.transaction_id
    WHERE idle.amount > 0
),

wanted AS (
    SELECT
        booking_id,
        gateway,
        transaction_id,
        currency,
        account,
        whole + CASE WHEN place <= amount - sum(whole) OVER charged THEN 1 ELSE 0 END AS amount
    FROM cut
    WINDOW charged AS (PARTITION BY booking_id, gateway, transaction_id)
),

owed AS (
    SELECT
        side.booking_id,
        side.account,
        side.currency,
        sum(side.amount) AS amount
    FROM (
        SELECT
            transfer.booking_id,
            transfer.credit AS account,
            transfer.currency,
            transfer.amount
        FROM transfer
        INNER JOIN wanted ON transfer.booking_id = wanted.booking_id AND transfer.credit = wanted.account
        GROUP BY transfer.booking_id, transfer.id
        UNION ALL
        SELECT
            transfer.booking_id,
            transfer.debit AS account,
            transfer.currency,
            -transfer.amount AS amount
        FROM transfer
        INNER JOIN wanted ON transfer.booking_id = wanted.booking_id AND transfer.debit = wanted.account
        GROUP BY transfer.booking_id, transfer.id
    ) AS side
    GROUP BY side.booking_id, side.account, side.currency
),

taken AS (
    SELECT
        wanted.booking_id,
        wanted.gateway,
        wanted.transaction_id,
        wanted.currency,
        wanted.account,
        least(
            wanted.amount,
            owed.amount - coalesce(sum(wanted.amount) OVER (
                PARTITION BY wanted.booking_id, wanted.account, wanted.currency
                ORDER BY wanted.gateway, wanted.transaction_id
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
            ), 0)
        ) AS amount
    FROM wanted
    INNER JOIN owed
        ON
            wanted.booking_id = owed.booking_id
            AND wanted.account = owed.account
            AND wanted.currency = owed.currency
)

INSERT INTO transfer (booking_id, id, event, line, debit, credit, amount, currency, posted_at)
SELECT
    taken.booking_id,
    gen_random_uuid() AS id,
    'unspent:' || taken.gateway || ':' || taken.transaction_id AS event,
    row_number() OVER (
        PARTITION BY taken.booking_id, taken.gateway, taken.transaction_id ORDER BY taken.account
    ) AS line,
    taken.account AS debit,
    'ticket_liability:unspent' AS credit,
    taken.amount,
    taken.currency,
    kiti_now() AS posted_at
FROM taken
WHERE taken.amount > 0;

-- Payouts left an account of the platform's at no bank in particular; now each leaves the one that its gateway pays
-- from.
INSERT INTO transfer (booking_id, id, event, line, debit, credit, amount, currency, posted_at)
SELECT
    gone.settlement_id AS booking_id,
    gen_random_uuid() AS id,
    'payout_bank:' || gone.payout_id AS event,
    1 AS line,
    'bank:platform' AS debit,
    'bank:' || gone.gateway AS credit,
    gone.amount,
    gone.currency,
    kiti_now() AS posted_at
FROM (
    SELECT
        payout.settlement_id,
        payout.id AS payout_id,
        payout.gateway,
        transfer.currency,
        sum(CASE WHEN transfer.credit = 'bank:platform' THEN transfer.amount ELSE -transfer.amount END) AS amount
    FROM payout
    INNER JOIN transfer
        ON
            payout.settlement_id = transfer.booking_id
            AND transfer.event IN ('payout_done:' || payout.id, 'payout_returned:' || payout.id)
    WHERE 'bank:platform' IN (transfer.debit, transfer.credit)
    GROUP BY payout.settlement_id, payout.id, payout.gateway, transfer.currency
) AS gone
WHERE gone.amount > 0;
