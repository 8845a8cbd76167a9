"""The events that wait for the router's next step, with what routing them left behind."""

from __future__ import annotations

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.ranges import INPUT, SHARE, expect
from stream_moe.router.published.mlp import Activations, Router
from stream_moe.snapshot import Snapshot
from stream_moe.types import Bool, Float32


class MiniBatch:
    """Routes runs of events, remembers the labelled ones, and lets the router step when it holds B of them.

    The activations of a forward pass are kept for the backward pass: inside a mini-batch the router does not
    change, so computing them again would give the same numbers.

    Parameters
    ----------
    router
        Who learns.
    size
        B.
    """

    def __init__(self, router: Router, size: int) -> None:
        self.router, self.size, self.filled = router, size, 0
        self._held: Activations
        self._routed: Activations
        self._target: Float32
        self._allocate()

    @property
    def room(self) -> int:
        """How many more labelled events there are before the router steps."""
        return self.size - self.filled

    def route(self, x: Float32) -> Float32:
        """Return logits float32 [n, E] of n <= B events, valid until the next call."""
        n = len(x)
        self._routed.x[:n] = x
        self.router.forward(self._routed.rows(0, n))
        return self._routed.logits[:n]

    def remember(self, target: Float32, labelled: Bool) -> None:
        """Take the events just routed that have a label, with their targets [n, E]; step when B are there."""
        n = int(labelled.sum())
        here = slice(self.filled, self.filled + n)
        if n == self.size:  # the whole batch at once: nothing to copy
            self._held, self._routed = self._routed, self._held
        else:
            rows = slice(n) if n == len(labelled) else labelled.nonzero()[0]
            for held, routed in zip(self._held, self._routed, strict=True):
                held[here] = routed[rows]
        self._target[here] = target if n == len(labelled) else target[labelled]
        self.filled += n
        if self.filled == self.size:
            self.router.learn(self._held.x, self._target, self._held)
            self.filled = 0

    def grow(self) -> None:
        """Follow a router that has grown."""
        state = self.snapshot()
        self._allocate()
        self.restore(state)

    def snapshot(self) -> Snapshot:
        return {"x": self._held.x[: self.filled].copy(), "target": self._target[: self.filled].copy()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        x = expect("batch", snapshot[0], "x", np.float32, (None, None), INPUT)
        target = expect("batch", snapshot[0], "target", np.float32, (len(x), None), SHARE)
        (d, *_, e), here = self.router.widths, (len(x), x.shape[1], target.shape[1])
        if not (here[0] < self.size and here[1] <= d and here[2] <= e):  # narrower where the router has just grown
            raise CheckpointError(
                f"batch: {here} events, features and experts in the checkpoint, and below {self.size} of at most {d} "
                f"and {e} are allowed"
            )
        self.filled = len(x)
        self._held.x[: self.filled] = self._target[: self.filled] = 0
        self._held.x[: self.filled, : x.shape[1]] = x
        self._target[: self.filled, : target.shape[1]] = target
        self.router.forward(self._held.rows(0, self.filled))  # row by row: the same bits as when they were routed

    def _allocate(self) -> None:
        self._held, self._routed = (Activations.empty(self.size, self.router.widths) for _ in range(2))
        self._target = np.zeros((self.size, self.router.n_experts), np.float32)
