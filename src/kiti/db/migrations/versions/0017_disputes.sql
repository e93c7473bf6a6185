-- What travellers' banks want back, what gateways paid into our bank, and what the bank says of it.

-- ------------------------------------------------------------------ ledger

-- What nobody else bears is a loss. The list of accounts is taken as it stands, so that it keeps those that other
-- migrations have added.
DO $$
DECLARE
    side text;
    known text;
BEGIN
    FOREACH side IN ARRAY ARRAY['debit', 'credit'] LOOP
        SELECT pg_get_constraintdef(oid) INTO STRICT known
        FROM pg_constraint WHERE conrelid = 'transfer'::regclass AND conname = 'transfer_known_' || side;
        EXECUTE format('ALTER TABLE transfer DROP CONSTRAINT transfer_known_%s', side);
        EXECUTE format(
            'ALTER TABLE transfer ADD CONSTRAINT transfer_known_%s %s', side, replace(known, '''^(', '''^(loss|')
        );
    END LOOP;
END;
$$;

-- ------------------------------------------------------------------ disputes (by booking id)

-- What is under dispute counts as reserved to go back, so that no refund can take it as well.
ALTER TABLE charge ADD COLUMN disputed bigint NOT NULL DEFAULT 0;
ALTER TABLE charge ADD CONSTRAINT charge_disputed_is_reserved CHECK (disputed BETWEEN 0 AND refund_reserved);
CREATE INDEX charge_transaction ON charge (transaction_id);
CREATE INDEX refund_created ON refund (created_at, id);

CREATE TABLE dispute (
    booking_id uuid NOT NULL REFERENCES booking (id),
    id uuid NOT NULL,
    gateway text NOT NULL,
    dispute_id text NOT NULL, -- as the gateway calls it
    transaction_id text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0), -- what the gateway holds back
    currency char(3) NOT NULL,
    reserved bigint NOT NULL, -- the part of it that was not refunded before, reserved on the charge
    state text NOT NULL CHECK (state IN ('open', 'won', 'lost', 'accepted')),
    reason text NOT NULL DEFAULT '',
    answer_by timestamptz,
    opened_at timestamptz NOT NULL, -- when we heard of it
    ended_at timestamptz,
    answer text CHECK (answer IN ('accept', 'contest')),
    answer_state text CHECK (answer_state IN ('submitting', 'sent', 'refused')),
    answer_comment text NOT NULL DEFAULT '',
    answer_failure text NOT NULL DEFAULT '',
    answered_by text NOT NULL DEFAULT '',
    attempts integer NOT NULL DEFAULT 0, -- how often the gateway was asked to take an answer
    act_after timestamptz, -- NULL: no answer is on its way
    attention text NOT NULL DEFAULT '', -- why a person must look; empty: nobody has to
    reminders integer NOT NULL DEFAULT 0,
    PRIMARY KEY (booking_id, id),
    UNIQUE (booking_id, gateway, dispute_id),
    FOREIGN KEY (booking_id, gateway, transaction_id) REFERENCES charge (booking_id, gateway, transaction_id),
    CHECK (reserved BETWEEN 0 AND amount),
    CHECK ((state = 'open') = (ended_at IS NULL)),
    CHECK ((answer IS NULL) = (answer_state IS NULL)),
    CHECK ((answer_state IS NOT DISTINCT FROM 'submitting') = (act_after IS NOT NULL))
);
CREATE INDEX dispute_by_id ON dispute (id);
CREATE INDEX dispute_open ON dispute (answer_by) WHERE state = 'open' OR attention <> '';
CREATE INDEX dispute_due ON dispute (act_after) WHERE act_after IS NOT NULL;
CREATE INDEX dispute_transaction ON dispute (booking_id, transaction_id);

CREATE TABLE dispute_history (
    booking_id uuid NOT NULL,
    dispute_id uuid NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (booking_id, id),
    FOREIGN KEY (booking_id, dispute_id) REFERENCES dispute (booking_id, id)
);

-- ------------------------------------------------------------------ banking

-- What a gateway says that it paid into our bank account, in minor units, possibly fractions of one.
CREATE TABLE gateway_settlement (
    settlement_id text NOT NULL,
    gateway text NOT NULL,
    id uuid NOT NULL, -- what the ledger posts below
    day date NOT NULL,
    currency char(3) NOT NULL,
    gross_exact numeric NOT NULL,
    fee_exact numeric NOT NULL,
    refund_exact numeric NOT NULL,
    chargeback_exact numeric NOT NULL,
    net_exact numeric NOT NULL,
    is_paid boolean NOT NULL,
    found_at timestamptz NOT NULL,
    posted_at timestamptz, -- NULL: the ledger does not have all of it yet
    refund_rest bigint NOT NULL DEFAULT 0, -- refunds and disputes held back that are none that we know
    dispute_rest bigint NOT NULL DEFAULT 0,
    contradiction bigint NOT NULL DEFAULT 0, -- by how much its own figures differ from one another
    PRIMARY KEY (settlement_id, gateway)
);
CREATE INDEX gateway_settlement_day ON gateway_settlement (day);

CREATE TABLE gateway_settlement_line (
    transaction_id text NOT NULL,
    gateway text NOT NULL,
    settlement_id text NOT NULL,
    reference text NOT NULL,
    gross_exact numeric NOT NULL,
    fee_exact numeric NOT NULL,
    PRIMARY KEY (transaction_id, gateway, settlement_id)
);
CREATE INDEX gateway_settlement_line_settlement ON gateway_settlement_line (settlement_id);

-- What of ours a settlement has settled: written in the transaction that posts it, so it is posted once.
CREATE TABLE settled_item (
    booking_id uuid NOT NULL REFERENCES booking (id),
    gateway text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('charge', 'refund', 'dispute', 'dispute_return')),
    item_id text NOT NULL, -- the gateway's transaction, our refund, our dispute
    settlement_id text NOT NULL,
    amount bigint NOT NULL, -- what came into the bank for it; below zero: what was held back
    settled_at timestamptz NOT NULL,
    PRIMARY KEY (booking_id, gateway, kind, item_id, settlement_id)
);
CREATE UNIQUE INDEX settled_item_once ON settled_item (booking_id, gateway, kind, item_id) WHERE kind <> 'charge';
CREATE INDEX settled_item_settlement ON settled_item (settlement_id);

-- Lines of bank statements, each once: the digest is of all that it says, and of its place among equal ones of a day.
CREATE TABLE bank_line (
    digest bytea PRIMARY KEY,
    day date NOT NULL,
    amount bigint NOT NULL, -- minor units; below zero: paid out
    currency char(3) NOT NULL,
    reference text NOT NULL,
    text text NOT NULL,
    imported_at timestamptz NOT NULL,
    imported_by text NOT NULL,
    gateway text, -- with settlement_id: what it is the payment of
    settlement_id text,
    CHECK ((gateway IS NULL) = (settlement_id IS NULL))
);
CREATE INDEX bank_line_day ON bank_line (day) WHERE settlement_id IS NULL;
CREATE INDEX bank_line_settlement ON bank_line (settlement_id) WHERE settlement_id IS NOT NULL;

-- ------------------------------------------------------------------ reconciliation

-- Which books differ is part of what a break is; a person may take one on, and may close it with a reason.
ALTER TABLE reconciliation_break
ADD COLUMN id uuid NOT NULL DEFAULT gen_random_uuid(),
ADD COLUMN sides text NOT NULL DEFAULT 'ledger_gateway' CHECK (
    sides IN ('ledger_gateway', 'ledger_settlement', 'settlement_bank', 'ledger_dispute')
),
ADD COLUMN assigned_to text NOT NULL DEFAULT '',
ADD COLUMN resolved_by text NOT NULL DEFAULT '',
-- What a person has made of it; NULL: a comparison did not find it any more.
ADD COLUMN IF NOT EXISTS resolution text CHECK (length(resolution) BETWEEN 1 AND 400);
ALTER TABLE reconciliation_break ALTER COLUMN id DROP DEFAULT;
ALTER TABLE reconciliation_break DROP CONSTRAINT reconciliation_break_pkey;
ALTER TABLE reconciliation_break ADD PRIMARY KEY (transaction_id, gateway, kind, sides);
CREATE INDEX reconciliation_break_id ON reconciliation_break (id);

CREATE TABLE reconciliation_run (
    id uuid PRIMARY KEY,
    began_at timestamptz NOT NULL,
    ended_at timestamptz NOT NULL,
    days integer NOT NULL,
    transactions integer NOT NULL,
    settlements integer NOT NULL,
    repaired integer NOT NULL,
    silent integer NOT NULL,
    still_open integer NOT NULL
);
