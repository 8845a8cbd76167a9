"""Grids of replays: streams x models x settings x seeds, from a TOML file."""

from __future__ import annotations
