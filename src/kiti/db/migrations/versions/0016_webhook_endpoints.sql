-- Who of others is told of events, the events, and what became of telling them. An event is written in the transaction
-- of what it tells, together with its deliveries, and only where somebody listens to it.

-- Secrets are encrypted. `failing_since`: no delivery has succeeded since then, and some have failed.
CREATE TABLE webhook_endpoint (
    id uuid PRIMARY KEY,
    operator_id uuid REFERENCES operator (id), -- NULL: of the platform, hears of everybody's bookings
    url text NOT NULL CHECK (length(url) BETWEEN 1 AND 2000),
    description text NOT NULL DEFAULT '' CHECK (length(description) <= 200),
    event_types text[] NOT NULL CHECK (cardinality(event_types) > 0),
    secret bytea NOT NULL,
    previous_secret bytea, -- signs too, until previous_until
    previous_until timestamptz,
    created_at timestamptz NOT NULL,
    failing_since timestamptz,
    rests_until timestamptz, -- it has asked to be left alone
    disabled_at timestamptz,
    disabled_reason text,
    CHECK ((previous_secret IS NULL) = (previous_until IS NULL)),
    CHECK ((disabled_at IS NULL) = (disabled_reason IS NULL))
);

-- What happened to a booking, a trip, an endpoint: the subject. `is_shared`: other operators have a part in it.
CREATE TABLE hook_event (
    subject_id uuid NOT NULL,
    id uuid NOT NULL,
    type text NOT NULL CHECK (type ~ '^[a-z_]+\.[a-z_]+$'),
    created_at timestamptz NOT NULL,
    is_shared boolean NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (subject_id, id)
);
CREATE INDEX hook_event_age ON hook_event (created_at);

-- One for each endpoint that is told; `round` counts from 0 and grows with each replay.
CREATE TABLE hook_delivery (
    subject_id uuid NOT NULL,
    event_id uuid NOT NULL,
    endpoint_id uuid NOT NULL REFERENCES webhook_endpoint (id),
    round smallint NOT NULL,
    state text NOT NULL CHECK (state IN ('pending', 'sending', 'delivered', 'failed')),
    attempts smallint NOT NULL DEFAULT 0,
    act_after timestamptz, -- pending: when to send it; sending: when whoever took it must have died
    created_at timestamptz NOT NULL,
    attempted_at timestamptz,
    status smallint, -- of the last answer, NULL where there was none
    reason text, -- why the last attempt failed
    snippet text, -- how the last answer began
    PRIMARY KEY (subject_id, event_id, endpoint_id, round),
    FOREIGN KEY (subject_id, event_id) REFERENCES hook_event (subject_id, id) ON DELETE CASCADE,
    CHECK ((state IN ('pending', 'sending')) = (act_after IS NOT NULL))
) WITH (fillfactor = 80);
CREATE INDEX hook_delivery_due ON hook_delivery (endpoint_id, act_after) WHERE state = 'pending';
CREATE INDEX hook_delivery_sending ON hook_delivery (endpoint_id, act_after) WHERE state = 'sending';
CREATE INDEX hook_delivery_log ON hook_delivery (endpoint_id, event_id, round);
