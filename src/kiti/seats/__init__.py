"""Who has which seat on which leg of which trip."""
