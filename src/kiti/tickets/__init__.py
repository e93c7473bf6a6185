"""Tickets: signed, drawn, used once."""
