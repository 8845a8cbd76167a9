"""What the experts said of events whose labels are still on their way.

With late labels a gate must judge each expert by what it said when the event was predicted. Asked again when
the label arrives, those that live on the latest labels (no-change, neighbours) would look far better than
they are: they have seen the event's neighbours by then, which they had not when it mattered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from stream_moe.errors import CheckpointError
from stream_moe.experts.base import Snapshot
from stream_moe.types import Bool, Float32, Float64, Int32, Int64

MOST_EVENTS, MOST_BYTES = 8192, 2**25

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]


class Ring(NamedTuple):
    """The latest W unlabelled events."""

    key: UInt64  # [W] of the features
    open: Bool  # [W] the label has not come
    proba: Float32  # [W, E, C]
    head: Int64  # [2] events ever taken in; the oldest that may still be open


@njit(cache=True, nogil=True, error_model="numpy")
def key_of(bits: UInt32) -> np.uint64:
    """A 64-bit key of a row's bits (FNV-1a by words, then mixed)."""
    z = np.uint64(0xCBF29CE484222325)
    for j in range(bits.shape[0]):
        z = (z ^ np.uint64(bits[j])) * np.uint64(0x100000001B3)
        z ^= z >> np.uint64(29)
    return z


@njit(cache=True, nogil=True, error_model="numpy")
def exchange(ring: Ring, bits: UInt32, y: Int32, told: Float64, recalled: Bool) -> None:
    """Take unlabelled events in; for a labelled one that waits, write what was said of it into `told`.

    bits uint32 [n, d]; told float64 [E, n, C], in and out; recalled [n], out. Of several equal events the
    oldest is taken.
    """
    size = ring.key.shape[0]
    for t in range(y.shape[0]):
        recalled[t] = False
        if y[t] < 0:
            slot = ring.head[0] % size
            ring.key[slot], ring.open[slot] = key_of(bits[t]), True
            for e in range(told.shape[0]):
                for c in range(told.shape[2]):
                    ring.proba[slot, e, c] = told[e, t, c]
            ring.head[0] += 1
            continue
        ring.head[1] = max(ring.head[1], ring.head[0] - size)
        while ring.head[1] < ring.head[0] and not ring.open[ring.head[1] % size]:
            ring.head[1] += 1
        if ring.head[1] == ring.head[0]:
            continue
        key = key_of(bits[t])
        for i in range(ring.head[1], ring.head[0]):
            slot = i % size
            if ring.open[slot] and ring.key[slot] == key:
                ring.open[slot], recalled[t] = False, True
                for e in range(told.shape[0]):
                    for c in range(told.shape[2]):
                        told[e, t, c] = ring.proba[slot, e, c]
                break


class Waiting:
    """A bounded store of what E experts of C classes said; the oldest events are forgotten first.

    An event is known again by its features, so nothing needs to be handed through from prediction to label.

    Examples
    --------
    >>> import numpy as np
    >>> store = Waiting(1, 2)
    >>> x = np.float32([[1.0], [2.0]])
    >>> _ = store.exchange(x, np.int32([-1, -1]), np.array([[[0.9, 0.1], [0.2, 0.8]]]))
    >>> now = np.array([[[0.5, 0.5], [0.5, 0.5]]])
    >>> told, recalled = store.exchange(x[::-1].copy(), np.int32([1, 0]), now)
    >>> told.round(2).tolist(), recalled.tolist()
    ([[[0.2, 0.8], [0.9, 0.1]]], [True, True])
    """

    def __init__(self, n_experts: int, n_classes: int) -> None:
        size = max(1, min(MOST_EVENTS, MOST_BYTES // (4 * n_experts * n_classes)))
        self._ring = Ring(
            np.zeros(size, np.uint64), np.zeros(size, np.bool_),
            np.zeros((size, n_experts, n_classes), np.float32), np.zeros(2, np.int64),
        )  # fmt: skip

    def exchange(self, x: Float32, y: Int32, proba: Float64) -> tuple[Float64, Bool]:
        """Return what the experts said of each event when it was predicted, [E, n, C], and where that was before.

        Parameters
        ----------
        x
            float32 [n, d].
        y
            int32 [n], -1 = the label is on its way.
        proba
            float64 [E, n, C], what the experts say now.
        """
        recalled = np.zeros(len(y), np.bool_)
        if self._ring.head[0] == 0 and (len(y) == 0 or y.min() >= 0):
            return proba, recalled
        told = proba.copy()
        exchange(self._ring, x.view(np.uint32), y, told, recalled)
        return told, recalled

    def grow(self, n_classes: int) -> None:
        """More classes: of the events that wait, the new ones had no chance. Wider rows match no longer."""
        _, e, c = self._ring.proba.shape
        if n_classes > c:
            old = self._ring
            self.__init__(e, n_classes)  # type: ignore[misc]
            n = len(self._ring.key)
            first = max(int(old.head[0]) - min(n, len(old.key)), int(old.head[1]))
            for i in range(first, int(old.head[0])):
                slot, was = i % n, i % len(old.key)
                self._ring.key[slot], self._ring.open[slot] = old.key[was], old.open[was]
                self._ring.proba[slot, :, :c] = old.proba[was]
            self._ring.head[:] = old.head[0], first

    def snapshot(self) -> Snapshot:
        used = min(int(self._ring.head[0]), len(self._ring.key))
        arrays = {name: array[:used].copy() for name, array in self._ring._asdict().items() if name != "head"}
        return arrays | {"head": self._ring.head.copy()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        arrays, _ = snapshot
        used = len(arrays["key"])
        if arrays["proba"].shape[1:] != self._ring.proba.shape[1:] or used > len(self._ring.key):
            raise CheckpointError(
                f"waiting: {arrays['proba'].shape} events, experts and classes in the checkpoint, up to "
                f"{self._ring.proba.shape} here"
            )
        for name, mine in self._ring._asdict().items():
            if name == "head":
                mine[...] = arrays[name]
            else:
                mine[:used], mine[used:] = arrays[name], 0
