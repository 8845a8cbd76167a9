"""Experts: anything that gives class probabilities and learns, one file per kind, and the pool of them."""

from __future__ import annotations
