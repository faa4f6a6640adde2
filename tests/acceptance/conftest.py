"""The played AWS for the tests of this folder."""

from __future__ import annotations

from tests.acceptance.aws import aws, run

__all__ = ["aws", "run"]
