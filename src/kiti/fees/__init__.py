"""What a booking costs besides its fares, who bears it and who gets it."""
