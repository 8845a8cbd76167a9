"""Adam's step over all parameters at once, compiled: every bit as torch's own step makes it.

Source: Kingma and Ba, Adam (ICLR 2015); the order of operations is that of `torch.optim.Adam(fused=True)` on a CPU
with AVX2 or more (aten/src/ATen/native/cpu/FusedAdamKernel.cpp, torch 2.6 to 2.15), where the compiler fused some
products with the sum that follows. Here those fusions are written out, so that every processor gives the same bits;
torch on one without AVX2 rounds each product too, and differs from them in the last bit.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
_VECTOR = 8  # numbers in a vector of torch's kernel, which fuses otherwise in what is left over at the end


@intrinsic
def fused(context: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a b + c of float32 numbers, rounded once."""
    return types.float32(types.float32, types.float32, types.float32), _fused


def _fused(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return builder.fma(*arguments)


def adam_step(parameters: Float32, gradient: Float32, m: Float32, v: Float32, rate: float, step: int) -> None:
    """Take Adam's step number `step`, in place.

    Parameters
    ----------
    parameters, gradient, m, v
        float32 [N]: what learns, its gradient, the moving means of the gradient and of its square.
    rate
        Learning rate.
    step
        Which step this is, from 1.

    Examples
    --------
    >>> w, m, v = np.ones(3, np.float32), np.zeros(3, np.float32), np.zeros(3, np.float32)
    >>> adam_step(w, np.float32([2, 0, -2]), m, v, rate=0.1, step=1)
    >>> w.round(4).tolist()
    [0.8999999761581421, 1.0, 1.100000023841858]
    """
    # Powers of floats, as torch takes them: a product of `step` factors would round otherwise.
    size = rate / (1.0 - math.pow(BETA1, float(step)))
    correction = math.sqrt(1.0 - math.pow(BETA2, float(step)))
    _step(parameters, gradient, m, v, np.float32(size), np.float32(correction))


@compiled(_nrt=False)
def _step(p: Float32, gradient: Float32, m: Float32, v: Float32, size: np.float32, correction: np.float32) -> None:
    """Coefficients are rounded to float32 once, from float64."""
    new1, new2, kept2 = np.float32(1.0 - BETA1), np.float32(1.0 - BETA2), np.float32(BETA2)
    epsilon = np.float32(EPSILON)
    whole = p.shape[0] - p.shape[0] % _VECTOR
    for k in range(whole):
        g = gradient[k]
        m[k] = fused(new1, g - m[k], m[k])
        v[k] = fused(new2 * g, g, v[k] * kept2)
        p[k] -= size * m[k] / (np.sqrt(v[k]) / correction + epsilon)
    for k in range(whole, p.shape[0]):
        g = gradient[k]
        m[k] = fused(new1, g - m[k], m[k])
        v[k] = fused(v[k], kept2, new2 * g * g)
        p[k] -= size * m[k] / (np.sqrt(v[k]) / correction + epsilon)
