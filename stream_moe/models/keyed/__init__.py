"""A model for each key: which keys are known, which models are in memory, and where the others lie."""

from __future__ import annotations
