"""Money, ids, clock, errors, settings: no I/O."""
