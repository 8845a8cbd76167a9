"""Experts that compare an event with others: nearest neighbours and moving prototypes."""

from __future__ import annotations
