"""Routers: from an event to a weight per expert."""

from __future__ import annotations
