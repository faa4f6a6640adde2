"""Hostile input: hypothesis attacks everything that the product reads, through the functions' real handlers."""
