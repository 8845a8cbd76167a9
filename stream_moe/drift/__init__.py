"""Detectors of drift: in errors (ADWIN), in features and labels, and the book of all that was found."""

from __future__ import annotations
