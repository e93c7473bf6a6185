"""Hooks: which programs of others are told of events, what they were told, and what became of it."""
