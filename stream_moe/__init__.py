"""stream_moe: a learned mixture of drift-adaptive experts on a log of events."""

from __future__ import annotations

__version__ = "0.1.0"
