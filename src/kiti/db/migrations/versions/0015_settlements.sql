-- Revenue is recognised when travellers have boarded. A trip is looked at from its first departure on until everybody
-- who bought it has been dealt with; the index knows nothing but those, and those to come.
ALTER TABLE trip ADD COLUMN revenue_at timestamptz; -- when that was so
CREATE INDEX trip_revenue_due ON trip (departs_at, id) WHERE revenue_at IS NULL AND state = 'scheduled';

-- What has changed an operator's account, in the order of time. Selling writes no such row.
CREATE INDEX transfer_payable_credit ON transfer (credit, posted_at) WHERE credit LIKE 'operator\_payable:%';
CREATE INDEX transfer_payable_debit ON transfer (debit, posted_at) WHERE debit LIKE 'operator\_payable:%';
-- The ledger is written in the order of time, so a range of it is a range of its pages.
CREATE INDEX transfer_posted ON transfer USING brin (posted_at);

-- How often an operator is settled with in a currency, and where the money goes. No row: monthly, and nowhere yet.
CREATE TABLE settlement_terms (
    operator_id uuid NOT NULL REFERENCES operator (id),
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    period text NOT NULL CHECK (period IN ('daily', 'weekly', 'monthly')),
    minimum_payout bigint NOT NULL CHECK (minimum_payout >= 0), -- minor units; less is carried over
    gateway text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('bank', 'mobile_money', 'connected')),
    country char(2) NOT NULL CHECK (country ~ '^[A-Z]{2}$'),
    bank text NOT NULL,
    account text NOT NULL CHECK (length(account) BETWEEN 1 AND 120),
    account_name text NOT NULL CHECK (length(account_name) BETWEEN 1 AND 120),
    set_by text NOT NULL,
    set_at timestamptz NOT NULL,
    PRIMARY KEY (operator_id, currency)
);

-- What an operator earned in a period, by the operator's calendar. Totals are those of the lines; `carried` is what the
-- statement before left, and `net` what is to be paid. Who looks at the rows: periods of one operator and currency
-- follow one another without overlap, because a period begins where the one before ended, under the operator's lock.
CREATE TABLE settlement (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator (id),
    currency char(3) NOT NULL,
    period text NOT NULL CHECK (period IN ('daily', 'weekly', 'monthly')),
    starts_at timestamptz NOT NULL,
    ends_at timestamptz NOT NULL, -- the first instant of the next one
    timezone text NOT NULL, -- in which these are midnights
    state text NOT NULL CHECK (
        state IN ('draft', 'approved', 'paying', 'paid', 'failed', 'reconciled', 'carried')
    ),
    attempts integer NOT NULL DEFAULT 0, -- how often money was sent
    gross bigint NOT NULL,
    refunds bigint NOT NULL,
    commission bigint NOT NULL,
    fees bigint NOT NULL,
    other bigint NOT NULL,
    carried bigint NOT NULL,
    net bigint NOT NULL,
    carried_into uuid REFERENCES settlement (id),
    made_at timestamptz NOT NULL,
    approved_by text,
    approved_at timestamptz,
    -- Where the money goes, as it was when somebody approved it.
    gateway text,
    kind text,
    country char(2),
    bank text,
    account text,
    account_name text,
    UNIQUE (operator_id, currency, starts_at),
    CHECK (starts_at < ends_at),
    CHECK (net = gross - refunds - commission - fees + other + carried),
    CHECK (state = 'carried' OR net > 0),
    CHECK (carried_into IS NULL OR state = 'carried'),
    CHECK (
        (state IN ('draft', 'carried'))
        = (num_nonnulls(approved_by, approved_at, gateway, kind, country, bank, account, account_name) = 0)
    )
);
CREATE INDEX settlement_made ON settlement (id DESC) INCLUDE (operator_id, state);
CREATE INDEX settlement_to_carry ON settlement (operator_id, currency)
WHERE state = 'carried' AND carried_into IS NULL;

-- Which entries of the ledger a statement is made of. No entry can be in two of them, and none can go away again: the
-- ledger is append-only.
CREATE TABLE settlement_line (
    booking_id uuid NOT NULL,
    transfer_id uuid NOT NULL,
    settlement_id uuid NOT NULL REFERENCES settlement (id),
    trip_id uuid, -- where the entry is about one trip
    kind text NOT NULL CHECK (kind IN ('gross', 'refund', 'commission', 'fee', 'other')),
    amount bigint NOT NULL CHECK (amount <> 0), -- as the operator sees it: what they get is above zero
    PRIMARY KEY (booking_id, transfer_id)
);
CREATE INDEX settlement_line_of ON settlement_line (settlement_id, booking_id);

-- Money on its way to an operator. Its id is the reference that the gateway sees.
CREATE TABLE payout (
    id uuid PRIMARY KEY,
    settlement_id uuid NOT NULL REFERENCES settlement (id),
    operator_id uuid NOT NULL REFERENCES operator (id),
    gateway text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('bank', 'mobile_money', 'connected')),
    country char(2) NOT NULL,
    bank text NOT NULL,
    account text NOT NULL,
    account_name text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency char(3) NOT NULL,
    state text NOT NULL CHECK (
        state IN (
            'requested', 'submitting', 'unknown', 'pending', 'succeeded', 'reconciled', 'failed', 'needs_attention'
        )
    ),
    attempts integer NOT NULL DEFAULT 0,
    gateway_payout_id text,
    fee_exact numeric, -- in minor units, possibly a fraction
    failure_reason text,
    requested_by text NOT NULL,
    created_at timestamptz NOT NULL,
    act_after timestamptz -- NULL: nothing left to do
);
-- A statement is paid once: another payout is possible only where the one before has failed for good.
CREATE UNIQUE INDEX payout_once ON payout (settlement_id) WHERE state <> 'failed';
CREATE INDEX payout_of ON payout (settlement_id, id);
CREATE INDEX payout_due ON payout (act_after) WHERE act_after IS NOT NULL;
