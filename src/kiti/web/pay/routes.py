"""To be written."""

ROUTES: list[object] = []
