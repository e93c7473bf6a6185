"""What travellers are told: when, in which words, and in which of their languages."""
