"""Models whose target is a number."""

from __future__ import annotations
