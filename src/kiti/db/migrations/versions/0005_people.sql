-- Staff of an operator, or of the platform: these belong to no operator and see all of them.
CREATE TABLE staff (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) BETWEEN 3 AND 254),
    name text NOT NULL CHECK (length(name) BETWEEN 1 AND 80),
    role text NOT NULL CHECK (
        role IN ('operator_staff', 'operator_finance', 'platform_finance', 'platform_admin')
    ),
    operator_id uuid REFERENCES operator (id),
    password_hash text NOT NULL CHECK (password_hash LIKE '$argon2id$%'),
    password_changed_at timestamptz NOT NULL, -- tokens that are older are worth nothing
    created_at timestamptz NOT NULL,
    disabled_at timestamptz,
    failed_logins integer NOT NULL DEFAULT 0, -- since the last one that was right
    locked_until timestamptz,
    CHECK ((role IN ('platform_finance', 'platform_admin')) = (operator_id IS NULL))
);

-- A browser that is logged in. `id` is the SHA-256 of its cookie's secret; `csrf` is the key of its forms' tokens.
CREATE TABLE staff_session (
    id bytea PRIMARY KEY CHECK (length(id) = 32),
    staff_id uuid NOT NULL REFERENCES staff (id),
    created_at timestamptz NOT NULL,
    last_seen_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    csrf bytea NOT NULL CHECK (length(csrf) = 32)
);
CREATE INDEX staff_session_staff ON staff_session (staff_id);

-- The few rows that wait for a person.
CREATE INDEX payment_review ON payment (created_at) WHERE state = 'review';
CREATE INDEX refund_attention ON refund (created_at) WHERE state = 'needs_attention';
