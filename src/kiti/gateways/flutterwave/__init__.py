"""Flutterwave v3: hosted checkout, verification, refunds, webhooks."""

from kiti.gateways.flutterwave.adapter import Flutterwave

__all__ = ["Flutterwave"]
