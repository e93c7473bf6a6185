-- A payment may wait for the traveller's bank, and it may be authorised before it is captured. Both are open: no second
-- attempt may begin beside them.
ALTER TABLE payment DROP CONSTRAINT payment_state_check;
ALTER TABLE payment ADD CONSTRAINT payment_state_check CHECK (
    state IN (
        'submitting', 'unknown', 'pending', 'requires_action', 'authorised', 'captured', 'failed', 'expired',
        'cancelled', 'review'
    )
);
DROP INDEX payment_one_open;
CREATE UNIQUE INDEX payment_one_open ON payment (booking_id)
WHERE state IN ('submitting', 'unknown', 'pending', 'requires_action', 'authorised');
