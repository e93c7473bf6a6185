"""The outside world: one Protocol, one adapter per provider. No adapter is called inside a transaction."""
