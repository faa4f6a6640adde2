"""Tests of the local cloud's own parts. tests/e2e tests the stack on it."""
