"""How kernels are compiled and cached, the threads that run them, seconds by phase, fail points."""

from __future__ import annotations
