"""The online gates of the default model, and what they need: who sleeps, and what waits for a label."""

from __future__ import annotations
