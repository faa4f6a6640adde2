"""What to do: from a snapshot of one pool to a plan."""
