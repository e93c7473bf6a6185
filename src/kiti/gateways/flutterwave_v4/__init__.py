"""Flutterwave v4: mobile money on the phone, hosted checkout, verification, refunds, transfers, webhooks."""

from kiti.gateways.flutterwave_v4.adapter import FlutterwaveV4

__all__ = ["FlutterwaveV4"]
