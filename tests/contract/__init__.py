"""Contracts: the same cases run on the fakes and on the real adapters."""
