"""Hoeffding trees, plain and adaptive: compiled kernels over flat arrays."""

from __future__ import annotations
