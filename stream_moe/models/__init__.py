"""Learners: the default mixture, the published variants, single experts, a model for each key; all by name."""

from __future__ import annotations
