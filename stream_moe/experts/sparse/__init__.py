"""Experts over sparse rows, and the few columns that the other kinds see of them."""

from __future__ import annotations
