"""Tests of the stack: what it deploys, to whom it gives which rights, and what it packs."""
