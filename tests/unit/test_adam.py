"""The compiled step of Adam against torch's own, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from stream_moe.router.published.adam import adam_step
from stream_moe.types import Float32


def gradients(n: int, steps: int) -> list[Float32]:
    """Of every size, some of them 0 and some so small that their square is none."""
    rng = np.random.default_rng(n)
    found = (rng.normal(size=(steps, n)) * 10.0 ** rng.integers(-6, 2, (steps, n))).astype(np.float32)
    found[rng.random((steps, n)) < 0.2] = 0.0
    found[rng.random((steps, n)) < 0.05] = 1e-30
    return list(found)


@pytest.mark.parametrize("n", [1, 7, 8, 13, 15, 4096, 38_923])  # what is left over of a vector is rounded otherwise
@pytest.mark.parametrize("rate", [2e-3, 0.5])
def test_has_the_bits_of_torch(n: int, rate: float) -> None:
    torch = pytest.importorskip("torch", reason="torch, whose step this one is held against, is not installed")
    if (kind := torch.backends.cpu.get_cpu_capability()) not in {"AVX2", "AVX512"}:
        pytest.skip(f"torch rounds otherwise on a processor of kind {kind}")
    start = np.random.default_rng(1).normal(0, 0.1, n).astype(np.float32)
    parameters, m, v = start.copy(), np.zeros(n, np.float32), np.zeros(n, np.float32)
    theirs = torch.from_numpy(start.copy()).requires_grad_()
    adam = torch.optim.Adam([theirs], lr=rate, fused=True)
    for step, gradient in enumerate(gradients(n, 40), 1):
        adam_step(parameters, gradient, m, v, rate, step)
        theirs.grad = torch.from_numpy(gradient)
        adam.step()
    state = adam.state[theirs]
    assert not np.array_equal(parameters, start)
    assert np.array_equal(m, state["exp_avg"].numpy())
    assert np.array_equal(v, state["exp_avg_sq"].numpy())
    assert np.array_equal(parameters, theirs.detach().numpy())


@pytest.mark.parametrize("step", [1, 300, 1_000_000])
def test_corrects_the_bias_of_the_moments(step: int) -> None:
    """One step from moments that have long met this gradient: its size is the rate, whatever the gradient's."""
    gradient = np.array([1e-3, -5.0, 200.0], np.float32)
    seen = 1.0 - 0.9 ** (step - 1), 1.0 - 0.999 ** (step - 1)
    m, v = (seen[0] * gradient).astype(np.float32), (seen[1] * gradient**2).astype(np.float32)
    parameters = np.zeros(3, np.float32)
    adam_step(parameters, gradient, m, v, 0.01, step)
    assert parameters == pytest.approx([-0.01, 0.01, -0.01], rel=1e-3)
