-- Where a gateway's books and ours differ about a transaction: found by the daily comparison, open until it is gone.
CREATE TABLE reconciliation_break (
    transaction_id text NOT NULL,
    gateway text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('missing_ours', 'missing_theirs', 'amount', 'fee', 'status', 'duplicate')),
    day date NOT NULL,
    booking_id uuid,
    detail text NOT NULL,
    found_at timestamptz NOT NULL,
    seen_at timestamptz NOT NULL,
    resolved_at timestamptz,
    PRIMARY KEY (transaction_id, gateway, kind)
);
CREATE INDEX reconciliation_break_open ON reconciliation_break (found_at) WHERE resolved_at IS NULL;
CREATE INDEX charge_captured ON charge (captured_at);
