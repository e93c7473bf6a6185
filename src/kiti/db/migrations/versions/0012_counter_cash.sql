-- Cash that somebody took at a counter for an attempt to pay, written down before it is settled. One for each attempt:
-- of two clerks who press at once, one is told that it has been taken.
CREATE TABLE cash_receipt (
    booking_id uuid NOT NULL,
    id uuid NOT NULL, -- the transaction of the gateway `cash`
    payment_id uuid NOT NULL,
    number text NOT NULL CHECK (length(number) BETWEEN 1 AND 20), -- what is read aloud: the reference and a count
    amount bigint NOT NULL CHECK (amount > 0),
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    staff_id uuid NOT NULL REFERENCES staff (id),
    counter text NOT NULL CHECK (length(counter) <= 80), -- where, as the clerk calls it; may be empty
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (booking_id, id),
    UNIQUE (booking_id, payment_id),
    UNIQUE (booking_id, number),
    FOREIGN KEY (booking_id, payment_id) REFERENCES payment (booking_id, id)
);
CREATE INDEX cash_receipt_id ON cash_receipt (id);
CREATE INDEX cash_receipt_payment ON cash_receipt (payment_id);
CREATE INDEX cash_receipt_taken ON cash_receipt (taken_at);

-- Cash that a counter handed back for a refund: once, says the primary key.
CREATE TABLE cash_handout (
    booking_id uuid NOT NULL,
    refund_id uuid NOT NULL,
    staff_id uuid NOT NULL REFERENCES staff (id),
    counter text NOT NULL CHECK (length(counter) <= 80),
    handed_at timestamptz NOT NULL,
    PRIMARY KEY (booking_id, refund_id),
    FOREIGN KEY (booking_id, refund_id) REFERENCES refund (booking_id, id)
);
