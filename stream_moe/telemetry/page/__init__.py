"""The live page at `/`: one report and its past as HTML, without anything from outside."""

from __future__ import annotations
