"""The neural router of the paper: a small MLP, learnt in mini-batches on the CPU or a CUDA device."""

from __future__ import annotations
