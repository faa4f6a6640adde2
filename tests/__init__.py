"""The tests; see README for how to run them."""
