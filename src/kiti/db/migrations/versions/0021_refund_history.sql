-- As payment_history. Refunds of before have the steps that they take from now on.
CREATE TABLE refund_history (
    booking_id uuid NOT NULL,
    refund_id uuid NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (booking_id, id),
    FOREIGN KEY (booking_id, refund_id) REFERENCES refund (booking_id, id)
);

-- Gateways' webhooks that were done with long ago are found by their age.
CREATE INDEX webhook_delivery_done ON webhook_delivery (processed_at) WHERE processed_at IS NOT NULL;
