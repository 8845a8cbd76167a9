"""Faults of the daemon's world, produced for real: `python -m tests.faults` prints the table."""

from __future__ import annotations
