-- An attempt is written down before it is the gateway's: `created`, until just before the gateway is asked. It is open:
-- no second attempt may begin beside it.
ALTER TABLE payment DROP CONSTRAINT payment_state_check;
ALTER TABLE payment ADD CONSTRAINT payment_state_check CHECK (
    state IN (
        'created', 'submitting', 'unknown', 'pending', 'requires_action', 'authorised', 'captured', 'failed', 'expired',
        'cancelled', 'review'
    )
);
DROP INDEX payment_one_open;
CREATE UNIQUE INDEX payment_one_open ON payment (booking_id)
WHERE state IN ('created', 'submitting', 'unknown', 'pending', 'requires_action', 'authorised');
