-- What travellers are told, by mail and by text message: written with the change that it tells of, sent afterwards.
--
-- `event` is what happened, with what it happened to where that may be several: held, changed:<id>, refunded:<refund>.
-- A recipient is told of an event once: the unique constraint. `doubts` counts the times when nobody knows whether a
-- message that went out has arrived.
CREATE TABLE message (
    booking_id uuid NOT NULL REFERENCES booking (id),
    id uuid NOT NULL,
    event text NOT NULL CHECK (event ~ '^[a-z_]+(:.+)?$'),
    channel text NOT NULL CHECK (channel IN ('email', 'sms')),
    recipient text NOT NULL CHECK (recipient <> ''),
    language text NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'sending', 'sent', 'parked')),
    attempts smallint NOT NULL DEFAULT 0,
    doubts smallint NOT NULL DEFAULT 0,
    act_after timestamptz, -- queued: when to send it; sending: when whoever took it must have died
    created_at timestamptz NOT NULL,
    sent_at timestamptz,
    provider_id text,
    failure_reason text,
    data jsonb NOT NULL,
    PRIMARY KEY (booking_id, id),
    UNIQUE (booking_id, event, channel, recipient),
    CHECK ((state IN ('queued', 'sending')) = (act_after IS NOT NULL)),
    CHECK ((state = 'sent') = (sent_at IS NOT NULL)),
    CHECK ((state = 'parked') <= (failure_reason IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX message_due ON message (act_after) WHERE act_after IS NOT NULL;
CREATE INDEX message_parked ON message (created_at) WHERE state = 'parked';
