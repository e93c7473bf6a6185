"""What operators are owed for a period, what a statement says of it, and how it was paid out."""
