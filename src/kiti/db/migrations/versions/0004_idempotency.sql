-- A mutating request that carries an Idempotency-Key: what it was, and what it was answered.
--
-- `key` is the SHA-256 of caller, method, path and the caller's key; `fingerprint` that of the canonical body. Without
-- `status` the first request is still at work, or died at it: after `locked_until` a retry takes over.
CREATE TABLE idempotency_key (
    key bytea PRIMARY KEY CHECK (length(key) = 32),
    fingerprint bytea NOT NULL CHECK (length(fingerprint) = 32),
    locked_until timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    status smallint CHECK (status BETWEEN 200 AND 499),
    media_type text NOT NULL DEFAULT '',
    body bytea NOT NULL DEFAULT ''
);
CREATE INDEX idempotency_key_age ON idempotency_key (created_at);
