"""A booking on its way to a ticket: who travels, how long the seats are held, how to find it again."""
