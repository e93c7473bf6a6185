-- What is asked beside the fares, from a moment on and until another: a rule is never changed, only ended. Of the rules
-- of a kind in force for a seat one counts: the operator's own before that for all, that for a method before that for
-- every method. Amounts are minor units of the currency, and the maximum NULL where there is none.
CREATE TABLE fee_rule (
    id uuid PRIMARY KEY,
    operator_id uuid REFERENCES operator (id), -- NULL: every operator without a rule of its own
    kind text NOT NULL CHECK (kind IN ('tax', 'platform_fee', 'gateway_fee', 'commission')),
    borne_by text NOT NULL,
    currency char(3) NOT NULL CHECK (currency ~ '^[A-Z]{3}$'),
    method text CHECK (method IN ('CARD', 'MOBILE_MONEY', 'BANK_TRANSFER', 'USSD', 'CASH')), -- NULL: every method
    basis_points integer NOT NULL CHECK (basis_points BETWEEN 0 AND 10000),
    fixed bigint NOT NULL CHECK (fixed BETWEEN 0 AND 1000000000000),
    minimum bigint NOT NULL CHECK (minimum BETWEEN 0 AND 1000000000000),
    maximum bigint CHECK (maximum BETWEEN minimum AND 1000000000000),
    per text NOT NULL CHECK (per IN ('booking', 'seat')),
    valid_from timestamptz NOT NULL,
    valid_until timestamptz,
    CHECK (valid_from <= valid_until),
    CONSTRAINT fee_rule_bearer CHECK (
        CASE kind
            WHEN 'platform_fee' THEN borne_by = 'traveller'
            WHEN 'commission' THEN borne_by = 'operator'
            WHEN 'tax' THEN borne_by IN ('traveller', 'operator')
            ELSE borne_by IN ('traveller', 'operator', 'platform')
        END
    ),
    -- A tax is a rate of the fare and nothing else.
    CONSTRAINT fee_rule_tax_is_a_rate CHECK (
        kind <> 'tax' OR (fixed = 0 AND minimum = 0 AND maximum IS NULL AND method IS NULL AND per = 'booking')
    ),
    -- A gateway is asked once for a booking.
    CONSTRAINT fee_rule_gateway_once CHECK (kind <> 'gateway_fee' OR per = 'booking'),
    -- What a method costs is the gateway's fee: all else is the same however somebody pays.
    CONSTRAINT fee_rule_method_of_gateway CHECK (kind = 'gateway_fee' OR method IS NULL)
);
-- One that goes on of each sort: who says it anew ends the one before.
CREATE UNIQUE INDEX fee_rule_goes_on ON fee_rule (
    kind, currency, coalesce(operator_id::text, ''), coalesce(method, '')
)
WHERE valid_until IS NULL;

-- What a booking costs besides its fares, as it was told before paying: the parts of each attempt to pay, for good.
CREATE TABLE booking_fee (
    booking_id uuid NOT NULL REFERENCES booking (id),
    payment_id uuid NOT NULL,
    operator_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('tax', 'platform_fee', 'gateway_fee', 'commission')),
    borne_by text NOT NULL CHECK (borne_by IN ('traveller', 'operator', 'platform')),
    amount bigint NOT NULL CHECK (amount > 0), -- in minor units of the booking's currency
    basis_points integer NOT NULL CHECK (basis_points BETWEEN 0 AND 10000), -- of a tax its rate; as the rule said it
    PRIMARY KEY (booking_id, payment_id, operator_id, kind, borne_by),
    FOREIGN KEY (booking_id, payment_id) REFERENCES payment (booking_id, id)
);
