"""Hostile input: hypothesis attacks everything the product reads, through the functions' real entry points."""
