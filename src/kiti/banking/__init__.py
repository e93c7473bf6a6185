"""What gateways paid into our bank account, by their word and by the bank's."""
