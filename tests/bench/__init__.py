"""Measurements, each run by ``python -m``; they print and assert nothing."""
