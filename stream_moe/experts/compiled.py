"""Experts whose step is a kernel over arrays that stay where they are: compiled code steps them all in one call."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numba import types
from numba.extending import intrinsic

from stream_moe.experts.base import Expert
from stream_moe.runtime.bound import Bound, call_by_address
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.copies import copy
from stream_moe.runtime.threads import take_number
from stream_moe.types import Bool, Float32, Float64, Int32, Int64

# Why a kernel came back. A number above DONE is its own, and for its expert to attend to.
FRESH, DONE = -1, 0
# What a kernel is given behind its state: x, y, weight, proba as `Expert.step` has them, and whether it goes on with
# rows that it came back from.
ROWS = (
    types.float32[:, ::1], types.int32[::1], types.float64[::1], types.float64[:, ::1], types.boolean,
)  # fmt: skip


_last_change = [object()]  # in this process: whoever keeps a `Bound` need not ask for it anew while this is the same


def last_change() -> object:
    """Return something that is another thing after any expert has lost its `Bound`."""
    return _last_change[0]


class CompiledExpert(Expert):
    """An expert with a kernel.

    A subclass names its `kernel` and what that works on, `_state`; it calls `_unbind` when an array, or a number, of
    that has given way to another. Where a class overrides `step`, Python calls that.

    Attributes
    ----------
    kernel
        A function of `compiled` over the state, to be `opened`, and ROWS; returns DONE, or why it came back.
    """

    kernel: ClassVar[Any]
    _bound: Bound | None = None
    _former: Bound | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is of this process."""
        return {name: value for name, value in self.__dict__.items() if name not in {"_bound", "_former"}}

    @property
    def bound(self) -> Bound:
        """The kernel with its state as it lies now."""
        if self._bound is None:
            kernel = type(self).kernel  # an instance would make a method of it
            self._bound, self._former = Bound(kernel, self._state(), ROWS, self._former), None
        return self._bound

    def _state(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def _unbind(self) -> None:
        _last_change[0] = object()
        self._bound, self._former = None, self._bound or self._former

    def attend(self, reason: int) -> None:
        """Do what the kernel came back for; it then goes on where it was."""

    def step(self, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
        """Test then train, row by row; see `stream_moe.experts.base.Expert.step`."""
        x, weight = np.ascontiguousarray(x, np.float32), np.ascontiguousarray(weight, np.float64)
        y = np.array(y, np.int32)  # which may be read-only: numba would compile anew for that
        out = proba if proba.flags.c_contiguous else np.empty(proba.shape)
        reason = FRESH
        while reason != DONE:
            if reason > DONE:
                self.attend(reason)
            reason = step_one(self.bound.function, self.bound.address, x, y, weight, out, reason != FRESH)
        if out is not proba:
            proba[...] = out


def kernel_of(expert: Expert) -> Bound | None:
    """Return an expert's kernel with its state; None = its `step` is in Python."""
    return expert.bound if type(expert).step is CompiledExpert.step else None  # type: ignore[attr-defined]


@intrinsic
def call(context: Any, function: Any, state: Any, x: Any, y: Any, weight: Any, proba: Any, again: Any) -> Any:
    """Call a bound kernel over ROWS; return why it came back."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        rows = [
            context.cast(builder, value, given, kind)
            for value, given, kind in zip(arguments[2:], signature.args[2:], ROWS, strict=True)
        ]
        return call_by_address(context, builder, arguments[:2], ROWS, rows)

    return types.int64(types.int64, types.int64, *ROWS), generate


@compiled
def step_one(function: int, state: int, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Step one expert."""
    return call(function, state, x, y, weight, proba, again)


@compiled
def step_some(
    function: int, state: int, active: Bool, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool
) -> int:
    """Step one expert through its active rows; its prediction of the others is NaN."""
    rows = active.nonzero()[0]
    some_x, some_y = np.empty((len(rows), x.shape[1]), np.float32), np.empty(len(rows), np.int32)
    some_weight, some_proba = np.empty(len(rows)), np.empty((len(rows), proba.shape[1]))
    for i in range(len(rows)):
        copy(x[rows[i]], some_x[i])
        copy(proba[rows[i]], some_proba[i])
        some_y[i], some_weight[i] = y[rows[i]], weight[rows[i]]
    reason = call(function, state, some_x, some_y, some_weight, some_proba, again)
    proba[:] = np.nan
    for i in range(len(rows)):
        copy(some_proba[i], proba[rows[i]])
    return reason


@compiled
def step_all(
    functions: Int64, states: Int64, order: Int64, number: Int64, reasons: Int64,
    x: Float32, y: Int32, weight: Float64, active: Bool, proba: Float64,
) -> None:  # fmt: skip
    """Step E experts, each alone through its active rows.

    functions, states [E] of their `Bound`; order [M], which of them, by the numbers drawn from `number`, which all
    threads share; reasons [E], out, why each came back, and in, FRESH or why it did before; the rest as for
    `stream_moe.experts.pool.ExpertPool.step`.
    """
    n = x.shape[0]
    while True:
        drawn = take_number(number)
        if drawn >= len(order):
            return
        e = order[drawn]
        labels, weights, again = y[min(e, len(y) - 1)], weight[min(e, len(weight) - 1)], reasons[e] != FRESH
        count = 0
        for t in range(n):
            count += active[e, t]
        if count == n:
            reasons[e] = call(functions[e], states[e], x, labels, weights, proba[e], again)
        elif count == 0:
            proba[e] = np.nan
            reasons[e] = DONE
        else:
            reasons[e] = step_some(functions[e], states[e], active[e], x, labels, weights, proba[e], again)
