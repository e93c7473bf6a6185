"""Kiti sells seats on dated departures of buses, shuttles, ferries and trains."""

__version__ = "0.1.0"
