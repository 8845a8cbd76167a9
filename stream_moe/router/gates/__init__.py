"""The online gates of the default model, and what they need: which experts sleep, and what waits for a label."""

from __future__ import annotations
