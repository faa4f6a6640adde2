"""Tests of the acceptance: its limits, state, claims and report. The whole runs are in tests/e2e/test_acceptance.py."""
