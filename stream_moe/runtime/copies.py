"""Copies of arrays in kernels.

numba's own `target[:] = source` can tell of shapes that do not fit. What writes that sentence takes three seconds to
compile, of thirty for everything.
"""

from __future__ import annotations

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64


@compiled(_nrt=False)
def copy(source: Float64 | Float32, target: Float64 | Float32) -> None:
    """Write source [n] to target [n]."""
    for i in range(target.shape[0]):
        target[i] = source[i]
