-- What a booking costs besides its fares, as it was told before paying.
CREATE TABLE booking_fee (
    booking_id uuid NOT NULL REFERENCES booking (id),
    operator_id uuid NOT NULL,
    kind text NOT NULL CHECK (kind IN ('tax', 'platform_fee', 'gateway_fee', 'commission')),
    borne_by text NOT NULL CHECK (borne_by IN ('traveller', 'operator', 'platform')),
    amount bigint NOT NULL CHECK (amount > 0), -- in minor units of the booking's currency
    PRIMARY KEY (booking_id, operator_id, kind, borne_by)
);
