-- So much of a fare goes back if a booking is cancelled so many hours before its travellers board. Of the rules whose
-- hours are still left the one with the most counts; an empty class is every class that has no rules of its own.
CREATE TABLE refund_rule (
    operator_id uuid NOT NULL REFERENCES operator (id),
    class text NOT NULL,
    hours_before integer NOT NULL CHECK (hours_before BETWEEN 0 AND 8760),
    percent smallint NOT NULL CHECK (percent BETWEEN 0 AND 100),
    PRIMARY KEY (operator_id, class, hours_before)
);

-- What an operator keeps of each seat for cancelling it, by currency, in minor units.
CREATE TABLE refund_fee (
    operator_id uuid NOT NULL REFERENCES operator (id),
    currency char(3) NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    PRIMARY KEY (operator_id, currency)
);
