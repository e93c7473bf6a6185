"""Bookings: who travels where on which seats, and how far the purchase has come."""
