-- What a gateway kept for no payment, and what it sent to operators for us: both lessen what reaches the bank.
ALTER TABLE gateway_settlement
    ADD COLUMN cost_exact numeric NOT NULL DEFAULT 0,
    ADD COLUMN payout_exact numeric NOT NULL DEFAULT 0;
