"""Tests against a real Prometheus."""

from __future__ import annotations
