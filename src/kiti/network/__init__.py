"""Operators, stops, layouts, vehicles, routes, fares, schedules, and the trips they make."""
