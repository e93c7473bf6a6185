"""Messages: what travellers are told by mail and text message, at most once for each event and recipient."""
