"""How Stripe signs what it posts. Source: docs.stripe.com/webhooks."""

import hashlib
import hmac
import time


def signature(body: bytes, *, secret: str, at: float | None = None) -> str:
    """The `Stripe-Signature` of a body posted now, or at an epoch second."""
    moment = int(time.time() if at is None else at)
    signed = str(moment).encode() + b"." + body
    return f"t={moment},v1={hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()}"
