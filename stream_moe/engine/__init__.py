"""The engine: the loop that joins labels, steps the learner, commits and checkpoints."""

from __future__ import annotations
