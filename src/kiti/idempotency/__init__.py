"""Idempotency keys: who repeats a request is told what the first one was told."""
