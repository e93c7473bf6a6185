-- The foundation. Two kinds of tables:
--   catalogue tables (operators, stops, trips ...) are small or grow with time, not with sales; on Citus they are
--   reference tables;
--   sales tables grow with sales and carry their distribution column in the primary key and in every unique
--   constraint. tests/integration/test_distribution.py reads the catalogue to prove it.
-- Ids are UUIDv7 made by the application; no sequence orders a business table.

-- The one clock that decides expiry. Tests replace this function to travel in time.
CREATE FUNCTION kiti_now() RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE
AS 'SELECT statement_timestamp()';

-- ------------------------------------------------------------------ network (catalogue)

CREATE TABLE operator (
    id uuid PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (code ~ '^[a-z0-9-]{2,32}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    country char(2) NOT NULL,
    timezone text NOT NULL,
    support_phone text NOT NULL DEFAULT ''
);

CREATE TABLE stop (
    id uuid PRIMARY KEY,
    code text NOT NULL UNIQUE CHECK (code ~ '^[A-Z0-9]{2,8}$'),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 120),
    city text NOT NULL CHECK (length(city) BETWEEN 1 AND 120),
    country char(2) NOT NULL,
    latitude double precision NOT NULL CHECK (latitude BETWEEN -90 AND 90),
    longitude double precision NOT NULL CHECK (longitude BETWEEN -180 AND 180),
    timezone text NOT NULL,
    search_key text NOT NULL -- lower case, no accents: 'kampala coach park'
);
CREATE INDEX stop_search_key ON stop (search_key text_pattern_ops);

CREATE TABLE layout (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator (id),
    name text NOT NULL,
    seat_count smallint NOT NULL CHECK (seat_count BETWEEN 1 AND 2000),
    UNIQUE (operator_id, name)
);

CREATE TABLE layout_seat (
    layout_id uuid NOT NULL REFERENCES layout (id),
    number text NOT NULL CHECK (number ~ '^[A-Z0-9]{1,8}$'),
    deck smallint NOT NULL CHECK (deck >= 1),
    row_index smallint NOT NULL CHECK (row_index >= 0),
    column_index smallint NOT NULL CHECK (column_index >= 0),
    class text NOT NULL,
    is_window boolean NOT NULL,
    is_aisle boolean NOT NULL,
    is_accessible boolean NOT NULL,
    PRIMARY KEY (layout_id, number),
    UNIQUE (layout_id, deck, row_index, column_index)
);

-- What is drawn beside the seats: driver, door, toilet, stairs.
CREATE TABLE layout_feature (
    layout_id uuid NOT NULL REFERENCES layout (id),
    deck smallint NOT NULL,
    row_index smallint NOT NULL,
    column_index smallint NOT NULL,
    kind text NOT NULL CHECK (kind IN ('driver', 'door', 'toilet', 'stairs', 'luggage')),
    PRIMARY KEY (layout_id, deck, row_index, column_index)
);

CREATE TABLE vehicle (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator (id),
    layout_id uuid NOT NULL REFERENCES layout (id),
    kind text NOT NULL CHECK (kind IN ('bus', 'shuttle', 'ferry', 'train')),
    name text NOT NULL,
    registration text NOT NULL,
    UNIQUE (operator_id, registration)
);

CREATE TABLE route (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator (id),
    code text NOT NULL,
    name text NOT NULL,
    UNIQUE (operator_id, code)
);

CREATE TABLE route_stop (
    route_id uuid NOT NULL REFERENCES route (id),
    seq smallint NOT NULL CHECK (seq >= 0),
    stop_id uuid NOT NULL REFERENCES stop (id),
    arrives_after_minutes integer NOT NULL CHECK (arrives_after_minutes >= 0),
    departs_after_minutes integer NOT NULL,
    PRIMARY KEY (route_id, seq),
    UNIQUE (route_id, stop_id),
    CHECK (departs_after_minutes >= arrives_after_minutes)
);
CREATE INDEX route_stop_stop ON route_stop (stop_id, route_id, seq);

CREATE TABLE fare (
    route_id uuid NOT NULL REFERENCES route (id),
    from_seq smallint NOT NULL,
    to_seq smallint NOT NULL,
    class text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0), -- minor units
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    PRIMARY KEY (route_id, from_seq, to_seq, class),
    CHECK (from_seq < to_seq)
);

CREATE TABLE schedule (
    id uuid PRIMARY KEY,
    operator_id uuid NOT NULL REFERENCES operator (id),
    route_id uuid NOT NULL REFERENCES route (id),
    vehicle_id uuid NOT NULL REFERENCES vehicle (id),
    departs_local time NOT NULL, -- at the first stop, in its time zone
    weekdays smallint NOT NULL CHECK (weekdays BETWEEN 1 AND 127), -- bit 0 is Monday
    valid_from date NOT NULL,
    valid_until date NOT NULL,
    CHECK (valid_from <= valid_until)
);

CREATE TABLE trip (
    id uuid PRIMARY KEY,
    schedule_id uuid NOT NULL REFERENCES schedule (id),
    service_date date NOT NULL, -- local date at the first stop
    operator_id uuid NOT NULL REFERENCES operator (id),
    route_id uuid NOT NULL REFERENCES route (id),
    vehicle_id uuid NOT NULL REFERENCES vehicle (id),
    layout_id uuid NOT NULL REFERENCES layout (id),
    state text NOT NULL DEFAULT 'scheduled' CHECK (state IN ('scheduled', 'cancelled')),
    departs_at timestamptz NOT NULL,
    arrives_at timestamptz NOT NULL,
    UNIQUE (schedule_id, service_date),
    CHECK (departs_at < arrives_at)
);
CREATE INDEX trip_departure ON trip (departs_at);

CREATE TABLE trip_stop (
    trip_id uuid NOT NULL REFERENCES trip (id),
    seq smallint NOT NULL,
    route_id uuid NOT NULL,
    stop_id uuid NOT NULL REFERENCES stop (id),
    arrives_at timestamptz NOT NULL,
    departs_at timestamptz NOT NULL,
    local_date date NOT NULL, -- of departs_at, in the stop's time zone
    PRIMARY KEY (trip_id, seq)
);
-- Search is one range scan: the routes that call at both stops, then their departures on a local date.
CREATE INDEX trip_stop_search ON trip_stop (route_id, seq, local_date, departs_at, trip_id);

-- ------------------------------------------------------------------ seats (by trip_id)

-- No row, or expires_at <= kiti_now(): free. Finite expires_at: held. 'infinity': sold or blocked.
-- The owner is a booking or a block. There is no status column that could disagree.
CREATE TABLE seat_claim (
    trip_id uuid NOT NULL,
    seat text NOT NULL,
    leg smallint NOT NULL,
    owner_id uuid NOT NULL,
    claimed_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (trip_id, seat, leg)
) WITH (fillfactor = 80);

-- Seats that staff took off sale: the owner of claims for ever, until it is lifted.
CREATE TABLE seat_block (
    trip_id uuid NOT NULL,
    id uuid NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 200),
    actor text NOT NULL,
    created_at timestamptz NOT NULL,
    lifted_at timestamptz,
    PRIMARY KEY (trip_id, id)
);

-- ------------------------------------------------------------------ bookings (by booking id)

CREATE TABLE booking (
    id uuid PRIMARY KEY,
    reference text NOT NULL CHECK (reference ~ '^[A-HJKMNP-Z2-9]{6}$'),
    state text NOT NULL CHECK (
        state IN ('held', 'awaiting_payment', 'confirmed', 'completed', 'expired', 'cancelled')
    ),
    currency char(3) NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    contact_name text NOT NULL DEFAULT '',
    contact_email text NOT NULL DEFAULT '',
    contact_phone text NOT NULL DEFAULT '',
    language text NOT NULL DEFAULT 'en',
    created_at timestamptz NOT NULL,
    hold_until timestamptz NOT NULL, -- as the traveller asked for it
    hold_expires_at timestamptz NOT NULL, -- as it stands: a payment extends it
    hold_cap_at timestamptz NOT NULL, -- no payment extends it beyond
    confirmed_at timestamptz,
    arrives_at timestamptz, -- of the last trip, once confirmed
    CHECK ((state IN ('confirmed', 'completed')) <= (confirmed_at IS NOT NULL))
) WITH (fillfactor = 85);
CREATE INDEX booking_due ON booking (hold_expires_at) WHERE state IN ('held', 'awaiting_payment');
CREATE INDEX booking_arrival ON booking (arrives_at) WHERE state = 'confirmed';

-- References are unique across all bookings, so they live where they are the key.
CREATE TABLE booking_reference (
    reference text PRIMARY KEY,
    booking_id uuid NOT NULL
);

-- One row per seat and trip: the seat, its segment, who sits there, what it costs.
CREATE TABLE booking_seat (
    booking_id uuid NOT NULL REFERENCES booking (id),
    trip_id uuid NOT NULL,
    seat text NOT NULL,
    from_seq smallint NOT NULL,
    to_seq smallint NOT NULL,
    position smallint NOT NULL,
    operator_id uuid NOT NULL,
    class text NOT NULL,
    fare bigint NOT NULL CHECK (fare > 0),
    passenger_name text NOT NULL DEFAULT '',
    PRIMARY KEY (booking_id, trip_id, seat),
    CHECK (from_seq < to_seq)
);

-- ------------------------------------------------------------------ payments (by booking id)

CREATE TABLE payment (
    booking_id uuid NOT NULL REFERENCES booking (id),
    id uuid NOT NULL, -- the reference the gateway sees
    gateway text NOT NULL,
    method text NOT NULL CHECK (method IN ('CARD', 'MOBILE_MONEY', 'BANK_TRANSFER', 'USSD', 'CASH')),
    state text NOT NULL CHECK (
        state IN (
            'submitting', 'unknown', 'pending', 'captured', 'failed', 'expired', 'cancelled', 'review'
        )
    ),
    amount bigint NOT NULL CHECK (amount > 0), -- what the seats cost
    fee bigint NOT NULL CHECK (fee >= 0), -- what the traveller pays on top
    currency char(3) NOT NULL,
    return_url text NOT NULL DEFAULT '',
    checkout_url text,
    failure_reason text,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL, -- of the gateway's page
    polled_at timestamptz,
    poll_after timestamptz, -- NULL: nothing left to ask
    polls integer NOT NULL DEFAULT 0,
    PRIMARY KEY (booking_id, id)
);
CREATE UNIQUE INDEX payment_one_open ON payment (booking_id)
WHERE state IN ('submitting', 'unknown', 'pending');
CREATE INDEX payment_id ON payment (id);
CREATE INDEX payment_due ON payment (poll_after) WHERE poll_after IS NOT NULL;

CREATE TABLE payment_history (
    booking_id uuid NOT NULL,
    payment_id uuid NOT NULL,
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    from_state text NOT NULL,
    to_state text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (booking_id, id),
    FOREIGN KEY (booking_id, payment_id) REFERENCES payment (booking_id, id)
);

-- Money that a gateway says it took: each of its transactions once, whatever attempt it belongs to.
CREATE TABLE charge (
    booking_id uuid NOT NULL REFERENCES booking (id),
    gateway text NOT NULL,
    transaction_id text NOT NULL,
    payment_id uuid NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('fulfils', 'unfulfillable', 'surplus')),
    amount bigint NOT NULL CHECK (amount > 0),
    currency char(3) NOT NULL,
    fee_exact numeric NOT NULL CHECK (fee_exact >= 0), -- in minor units, possibly a fraction
    captured_at timestamptz NOT NULL,
    refund_reserved bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (booking_id, gateway, transaction_id),
    FOREIGN KEY (booking_id, payment_id) REFERENCES payment (booking_id, id),
    CHECK (refund_reserved BETWEEN 0 AND amount)
);
CREATE UNIQUE INDEX charge_fulfils_once ON charge (booking_id) WHERE purpose = 'fulfils';

CREATE TABLE refund (
    booking_id uuid NOT NULL REFERENCES booking (id),
    id uuid NOT NULL,
    gateway text NOT NULL,
    transaction_id text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency char(3) NOT NULL,
    reason text NOT NULL,
    state text NOT NULL CHECK (
        state IN ('requested', 'submitting', 'unknown', 'pending', 'succeeded', 'failed', 'needs_attention')
    ),
    gateway_refund_id text,
    failure_reason text,
    attempts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL,
    act_after timestamptz, -- NULL: nothing left to do
    PRIMARY KEY (booking_id, id),
    FOREIGN KEY (booking_id, gateway, transaction_id) REFERENCES charge (booking_id, gateway, transaction_id)
);
CREATE INDEX refund_id ON refund (id);
CREATE INDEX refund_transaction ON refund (transaction_id);
CREATE INDEX refund_due ON refund (act_after) WHERE act_after IS NOT NULL;

-- Every webhook delivery once, by the SHA-256 of its raw body.
CREATE TABLE webhook_delivery (
    digest bytea NOT NULL,
    gateway text NOT NULL,
    received_at timestamptz NOT NULL,
    body bytea NOT NULL,
    processed_at timestamptz,
    outcome text,
    PRIMARY KEY (digest, gateway)
);

-- ------------------------------------------------------------------ ledger (by booking id)

-- One row is one debit and one credit, so no set of rows can fail to balance. An event is posted once.
CREATE TABLE transfer (
    booking_id uuid NOT NULL,
    id uuid NOT NULL,
    event text NOT NULL CHECK (event ~ '^[a-z_]+:.+$'),
    line smallint NOT NULL CHECK (line >= 1),
    debit text NOT NULL,
    credit text NOT NULL,
    amount bigint NOT NULL CHECK (amount > 0),
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    posted_at timestamptz NOT NULL,
    PRIMARY KEY (booking_id, id),
    UNIQUE (booking_id, event, line),
    CHECK (debit <> credit),
    CONSTRAINT transfer_known_debit CHECK (
        debit ~ '^(gateway_clearing|gateway_fee|ticket_liability|operator_payable|platform_commission|refund_clearing|dispute_hold|bank|payout_in_transit|rounding):.+$' -- noqa: LT05
    ),
    CONSTRAINT transfer_known_credit CHECK (
        credit ~ '^(gateway_clearing|gateway_fee|ticket_liability|operator_payable|platform_commission|refund_clearing|dispute_hold|bank|payout_in_transit|rounding):.+$' -- noqa: LT05
    )
);

CREATE FUNCTION transfer_is_append_only() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on transfer is refused; post a reversing entry', TG_OP
        USING ERRCODE = 'restrict_violation';
END;
$$;
CREATE TRIGGER transfer_append_only BEFORE UPDATE OR DELETE ON transfer
FOR EACH ROW EXECUTE FUNCTION transfer_is_append_only();
CREATE TRIGGER transfer_never_truncated BEFORE TRUNCATE ON transfer
FOR EACH STATEMENT EXECUTE FUNCTION transfer_is_append_only();

-- ------------------------------------------------------------------ tickets (by booking id)

CREATE TABLE ticket (
    booking_id uuid NOT NULL REFERENCES booking (id),
    id uuid NOT NULL,
    trip_id uuid NOT NULL,
    seat text NOT NULL,
    state text NOT NULL CHECK (state IN ('valid', 'used', 'void')),
    token text NOT NULL, -- signed; what the QR code holds
    issued_at timestamptz NOT NULL,
    used_at timestamptz,
    used_where text,
    void_reason text,
    PRIMARY KEY (booking_id, id),
    UNIQUE (booking_id, trip_id, seat),
    CHECK ((state = 'used') = (used_at IS NOT NULL))
);

-- Keys that sign tickets. The private half is encrypted with a key derived from JWT_SECRET.
CREATE TABLE ticket_key (
    kid text PRIMARY KEY,
    public_key text NOT NULL,
    private_key bytea NOT NULL,
    created_at timestamptz NOT NULL
);

-- ------------------------------------------------------------------ audit (by subject id)

CREATE TABLE audit_event (
    subject_id uuid NOT NULL, -- a booking, a settlement, an operator
    id uuid NOT NULL,
    at timestamptz NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    detail jsonb NOT NULL,
    PRIMARY KEY (subject_id, id)
);
