"""The ticket: on the screen, on paper, without a connection."""
