"""Flutterwave v3: payments, refunds, payouts, settlements, chargebacks, webhooks."""

from kiti.gateways.flutterwave.adapter import Flutterwave

__all__ = ["Flutterwave"]
