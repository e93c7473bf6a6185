"""Who did what to which booking, and when."""
