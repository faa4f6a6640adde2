"""EC2's state: instances, offerings, capacity, limits and time."""
