"""What calls what in compiled code: one kernel with all its parts, and states seen by their address."""

from __future__ import annotations

import gc
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.core import compiler
from numba.extending import intrinsic

from stream_moe.runtime.bound import Bound, call_by_address, opened
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.kernel import _Flags
from stream_moe.types import Float64


@compiled
def half(x: float) -> float:
    return 0.5 * x


@compiled(fastmath=True)
def square(x: float) -> float:
    return x * x


@compiled
def both(x: float) -> float:
    return half(square(x)) + half(x)


@compiled
def around(values: Float64) -> float:
    return both(values[0]) + half(values[1])


def n_kernels(of: Any) -> int:
    return len(of.overloads)


def test_what_a_kernel_calls_is_a_part_of_it_and_no_kernel_of_its_own() -> None:
    assert around(np.array([3.0, 4.0])) == 8.0
    assert [n_kernels(each) for each in (around, both, square)] == [1, 0, 0]
    assert both(3.0) == 6.0  # called from Python it is one
    assert n_kernels(both) == 1


class Inner(NamedTuple):
    seen: Float64
    rate: float


class Outer(NamedTuple):
    inner: Inner
    counts: Any
    on: bool


@compiled
def add(inner: Inner, value: float) -> None:
    inner.seen[1, 2] += inner.rate * value


@compiled(no_cpython_wrapper=True)
def step(state: Any, value: float) -> int:
    outer, (more, number) = opened(state)
    if outer.on:
        add(outer.inner, value)
    for i in range(outer.counts.shape[0]):
        outer.counts[i] += number + i
    more.seen[0, 0] = outer.inner.seen.shape[1]
    return number


@intrinsic
def _call(context: Any, function: Any, state: Any, value: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        return call_by_address(context, builder, given[:2], (types.float64,), given[2:])

    return types.int64(types.int64, types.int64, types.float64), generate


@compiled
def call(function: int, state: int, value: float) -> int:
    return _call(function, state, value)


def test_a_kernel_sees_and_changes_the_arrays_of_its_state() -> None:
    seen, counts, more = np.zeros((2, 3)), np.zeros(2, np.int64), np.zeros((1, 1))
    state = (Outer(Inner(seen, 0.5), counts, True), (Inner(more, 0.0), -7))
    bound = Bound(step, state, (types.float64,))
    assert call(bound.function, bound.address, 8.0) == -7
    assert seen.tolist() == [[0.0, 0.0, 0.0], [0.0, 0.0, 4.0]]
    assert counts.tolist() == [-7, -6]
    assert more[0, 0] == 3.0


def test_options_are_equal_to_numbas_own() -> None:
    theirs = compiler.Flags()
    theirs.nrt = theirs.release_gil = True
    ours = _Flags(theirs)
    assert ours == theirs
    assert theirs == ours
    assert hash(ours) == hash(theirs)
    ours.nrt = False
    assert ours != theirs
    assert ours.copy() == ours


def test_compiling_leaves_the_collector_as_it_was() -> None:
    before = gc.get_threshold()
    half(2)  # of another type than above
    assert gc.get_threshold() == before


def test_a_kernel_is_read_from_disk_with_all_its_parts(tmp_path: Path) -> None:
    program = (
        "import numpy as np\n"
        "from stream_moe.answers import most_probable as kernel\n"
        "kernel(np.array([[0.25, 0.75]]), np.zeros(1, np.int32)); print(sum(kernel.stats.cache_hits.values()))"
    )
    environment = {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": ":".join(sys.path)}
    told = [subprocess.check_output([sys.executable, "-c", program], env=environment, text=True) for _ in range(2)]
    assert [int(each) for each in told] == [0, 1]
