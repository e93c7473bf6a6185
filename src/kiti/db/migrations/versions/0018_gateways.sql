-- What a gateway kept for no payment, and what it sent to operators for us: both lessen what reaches the bank.
ALTER TABLE gateway_settlement
ADD COLUMN cost_exact numeric NOT NULL DEFAULT 0,
ADD COLUMN payout_exact numeric NOT NULL DEFAULT 0;

-- An operator's account at a gateway, to which payments could be split; written down before the gateway is asked.
CREATE TABLE subaccount (
    operator_id uuid NOT NULL REFERENCES operator (id),
    gateway text NOT NULL,
    bank text NOT NULL CHECK (length(bank) BETWEEN 1 AND 40), -- the gateway's code
    account text NOT NULL CHECK (length(account) BETWEEN 1 AND 40),
    country char(2) NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    platform_percent numeric NOT NULL CHECK (platform_percent BETWEEN 0 AND 100),
    email text NOT NULL,
    phone text NOT NULL,
    subaccount_id text, -- the gateway's; NULL: whether it has opened one is not known
    asked_at timestamptz NOT NULL,
    opened_at timestamptz,
    PRIMARY KEY (operator_id, gateway, bank, account),
    CHECK ((subaccount_id IS NULL) = (opened_at IS NULL))
);
