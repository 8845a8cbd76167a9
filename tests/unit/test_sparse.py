"""The router's product: sums of few rows of a matrix, two at a time."""

from __future__ import annotations

import numpy as np
import pytest

from stream_moe.router.published.sparse import LANES, aligned, combine, pick
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32


@compiled
def sums(a: Float32, b: Float32, m: Float32, start: Float32) -> tuple[Float32, Float32]:
    row = np.empty(len(a), np.int32)
    out_a, out_b = np.empty_like(start), np.empty_like(start)
    combine(a, b, row, pick(a, b, row), m, start, out_a, out_b)
    return out_a, out_b


def numbers(*shape: int, seed: int = 1) -> Float32:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("width", [1, 12, 15, 16, 17, 127, 128, 129, 300])
def test_it_is_the_matrix_product_and_writes_nothing_else(width: int) -> None:
    x, m, start = numbers(2, 40), numbers(40, width), numbers(width)
    x[:, ::3] = 0.0
    around = np.full((2, width + 2 * LANES), 7.0, np.float32)
    outs = around[:, LANES : LANES + width]
    row = np.empty(40, np.int32)
    write(x[0], x[1], row, pick(x[0], x[1], row), m, start, outs[0], outs[1])
    assert outs == pytest.approx(start + x @ m, abs=1e-4)
    outs[:] = 7.0
    assert (around == 7.0).all()


@compiled
def write(
    a: Float32, b: Float32, row: Float32, n: int, m: Float32, start: Float32, out_a: Float32, out_b: Float32
) -> None:
    combine(a, b, row, n, m, start, out_a, out_b)


def test_a_sum_has_the_same_bits_whatever_it_is_paired_with() -> None:
    m, start = numbers(64, 130), numbers(130)
    a = numbers(64) * (numbers(64, seed=2) > 0)
    alone, twin = sums(a, a, m, start)
    assert np.array_equal(alone, twin)
    for seed in range(3, 8):
        b = numbers(64, seed=seed) * (numbers(64, seed=seed + 100) > 0)
        assert np.array_equal(sums(a, b, m, start)[0], alone)
        assert np.array_equal(sums(b, a, m, start)[1], alone)


def test_nothing_but_zeros_leaves_what_was_at_the_start() -> None:
    start = numbers(20)
    assert np.array_equal(sums(np.zeros(5, np.float32), np.zeros(5, np.float32), numbers(5, 20), start)[0], start)


def test_pick_lists_what_either_has() -> None:
    row = np.full(5, -1, np.int32)
    a, b = np.array([0, 1, 0, -2, 0], np.float32), np.array([0, 0, 3, 4, 0], np.float32)
    assert row[: pick(a, b, row)].tolist() == [1, 2, 3]


def test_arrays_begin_with_a_cache_line() -> None:
    assert all(aligned(n, 3).ctypes.data % 64 == 0 and aligned(n, 3).shape == (n, 3) for n in range(1, 20))
