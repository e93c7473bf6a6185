"""Pages for staff, in English: log in, what waits, payments. Plain tables, made for a keyboard."""
