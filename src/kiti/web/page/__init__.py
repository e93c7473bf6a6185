"""What every page shares: the layout, languages, rights of guests, security, static files, errors."""
