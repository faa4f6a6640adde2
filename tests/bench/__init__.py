"""Measurements, each started with ``python -m``. They print results and assert nothing."""
