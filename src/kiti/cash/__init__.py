"""Cash at a counter: what was taken, and what was handed back."""
