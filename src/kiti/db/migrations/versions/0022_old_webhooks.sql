-- Gateways' webhooks that were done with long ago are found by their age.
CREATE INDEX webhook_delivery_done ON webhook_delivery (processed_at) WHERE processed_at IS NOT NULL;
