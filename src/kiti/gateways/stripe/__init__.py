"""Stripe: hosted Checkout that only authorises, capture, refunds, disputes, transfers to operators, webhooks."""

from kiti.gateways.stripe.adapter import Stripe

__all__ = ["Stripe"]
