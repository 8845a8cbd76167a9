"""What an engine shows of itself: metrics, health and a page over HTTP, and logs."""

from __future__ import annotations

DEFAULT_PORT = 9108  # of /metrics and the live page; here, so that --help names it without the server
