"""Attempts to pay, what gateways took, and what goes back."""
