"""Pay: how, the gateway's page, the way back, and waiting for what it says."""
