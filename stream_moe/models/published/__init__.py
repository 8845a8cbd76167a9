"""DriftMoE as published (arXiv 2507.18464): one variant a file."""

from __future__ import annotations
