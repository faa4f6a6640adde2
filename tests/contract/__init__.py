"""Contracts: the same cases on the stand-ins and on the real adapters."""
