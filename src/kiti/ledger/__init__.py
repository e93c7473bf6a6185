"""Double entry, append-only, balanced by construction."""
