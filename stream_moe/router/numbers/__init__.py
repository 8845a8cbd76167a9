"""Gates over the distributions that experts answer with where the target is a number."""

from __future__ import annotations
