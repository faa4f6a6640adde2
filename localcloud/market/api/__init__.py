"""AWS's actions on the market: what each does and what it refuses."""
