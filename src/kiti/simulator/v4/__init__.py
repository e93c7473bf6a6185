"""Flutterwave v4 over the same memory: other words on the wire, the same money behind them.

Below ``/v4``: bearer tokens of the OAuth endpoint ``/idp/realms/flutterwave/protocol/openid-connect/token``,
idempotency keys (a key that is known gets the first good answer again, whatever is asked), amounts as decimals in major
units, answers ``{status, message, data, meta?}`` or ``{status: "failed", error}``.
A checkout session is a hosted link, a charge a transaction, a direct charge one that waits for the buyer. The shapes
follow Flutterwave's published v4 documentation and reference.
"""
