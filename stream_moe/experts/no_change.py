"""No-change as an expert: the label that arrived last comes again."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stream_moe.experts.compiled import DONE
from stream_moe.experts.state import ArrayState
from stream_moe.ranges import Range, index, named
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int32, Int64, Schema

SURE = 0.9  # probability of the last label; the rest is spread, so that a mixture can take its logarithm


class Memory(NamedTuple):
    last: Int64  # [1] class learnt last, -1 = none yet


@compiled(no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Test, then remember, row by row: the kernel of `CompiledExpert`."""
    (memory,) = opened(state)
    n_classes = proba.shape[1]
    for t in range(y.shape[0]):
        last = memory.last[0]
        if last < 0 or n_classes == 1:
            proba[t] = 1.0 / n_classes
        else:
            proba[t] = (1.0 - SURE) / (n_classes - 1)
            proba[t, last] = SURE
        if y[t] >= 0 and weight[t] > 0.0:
            memory.last[0] = y[t]
    return DONE


class NoChange(ArrayState):
    """Give 0.9 to the class learnt last and spread the rest; uniform before any.

    It is the yardstick of streams whose labels come in runs (covtype, electricity), and a useful member of a
    mixture there.

    Parameters
    ----------
    schema
        Only the classes matter.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_moe.types import Schema
    >>> expert = NoChange(Schema.numeric(1, ["a", "b", "c"]))
    >>> proba = np.empty((2, 3))
    >>> expert.step(np.zeros((2, 1), np.float32), np.int32([2, 0]), np.ones(2), proba)
    >>> proba.round(2).tolist()
    [[0.33, 0.33, 0.33], [0.05, 0.05, 0.9]]
    """

    kind = "no-change"
    kernel = step

    def __init__(self, schema: Schema) -> None:
        self.n_classes = schema.n_classes
        self._memory = Memory(np.full(1, -1, np.int64))

    def _parts(self) -> dict[str, Memory]:
        return {"memory": self._memory}

    def _ranges(self) -> dict[str, dict[str, Range]]:
        return {"memory": named(Memory, last=index(self.n_classes, none=True))}

    def _state(self) -> tuple[Any, ...]:
        return (self._memory,)

    def grow(self, schema: Schema) -> None:
        self.n_classes = schema.n_classes
