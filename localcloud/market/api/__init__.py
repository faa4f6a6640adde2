"""EC2's actions and what each refuses."""
