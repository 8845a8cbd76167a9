"""Models of other libraries as experts: river's and MOA's."""

from __future__ import annotations
