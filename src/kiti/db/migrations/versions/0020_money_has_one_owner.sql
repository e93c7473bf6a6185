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
