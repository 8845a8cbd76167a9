"""What an engine shows of itself: metrics, health and a page over HTTP, and logs."""

from __future__ import annotations
