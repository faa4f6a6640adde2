"""Tests of the local cloud's own parts; what it is for is under tests/e2e."""
