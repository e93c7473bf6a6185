"""Kiti sells seats on dated departures of buses, shuttles, ferries and trains."""
