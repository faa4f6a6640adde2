"""Whole-path tests on the local cloud."""
