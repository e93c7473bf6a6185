-- A direct charge asks a phone; there may be no page to pay on.
ALTER TABLE payment
ADD COLUMN channel text NOT NULL DEFAULT 'hosted' CHECK (channel IN ('hosted', 'direct')),
ADD COLUMN phone text NOT NULL DEFAULT ''; -- E.164, that was asked; empty for a page

-- What may be paid with what, through which gateway. Of rows about one method and gateway the most specific decides.
CREATE TABLE payment_option (
    id uuid PRIMARY KEY,
    operator_id uuid REFERENCES operator (id), -- NULL: every operator
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    country char(2) CHECK (country ~ '^[A-Z]{2}$'), -- where the journey begins; NULL: anywhere
    method text NOT NULL CHECK (method IN ('CARD', 'MOBILE_MONEY', 'BANK_TRANSFER', 'USSD', 'CASH')),
    gateway text NOT NULL CHECK (length(gateway) BETWEEN 1 AND 40),
    priority smallint NOT NULL DEFAULT 100 CHECK (priority BETWEEN 0 AND 1000), -- the lowest comes first
    is_on boolean NOT NULL DEFAULT true,
    UNIQUE NULLS NOT DISTINCT (operator_id, currency, country, method, gateway)
);
