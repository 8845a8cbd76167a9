"""A state as bytes: the format and its versions, whose a state is, and how it is read back."""

from __future__ import annotations
