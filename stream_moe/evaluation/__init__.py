"""Prequential evaluation: test each event, then train on it."""

from __future__ import annotations
