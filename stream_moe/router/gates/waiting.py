"""What was said of events whose labels are still on their way.

With late labels a gate must judge each part by what it said when the event was predicted. Asked again when
the label arrives, those that live on the latest labels (no-change, neighbours, fast gates) would look far
better than they are: they have seen the event's neighbours by then, which they had not when it mattered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from stream_moe.errors import CheckpointError
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot
from stream_moe.types import Bool, Float32, Int64

MOST_EVENTS, MOST_BYTES = 8192, 2**25

UInt32 = npt.NDArray[np.uint32]
UInt64 = npt.NDArray[np.uint64]


class Ring(NamedTuple):
    """The latest W unlabelled events, with what P parts said of C classes."""

    key: UInt64  # [W] of the features
    open: Bool  # [W] the label has not come
    learnt: Int64  # [W] labels that had been learnt by then
    said: Float32  # [W, P, C]
    head: Int64  # [2] events ever taken in; the oldest that may still be open


@compiled
def key_of(bits: UInt32) -> np.uint64:
    """A 64-bit key of a row's bits (FNV-1a by words, then mixed)."""
    z = np.uint64(0xCBF29CE484222325)
    for j in range(bits.shape[0]):
        z = (z ^ np.uint64(bits[j])) * np.uint64(0x100000001B3)
        z ^= z >> np.uint64(29)
    return z


@compiled
def put(ring: Ring, bits: UInt32, learnt: int) -> int:
    """Open a slot for an event and return it; the oldest event gives way."""
    slot = ring.head[0] % ring.key.shape[0]
    ring.key[slot], ring.open[slot], ring.learnt[slot] = key_of(bits), True, learnt
    ring.head[0] += 1
    return slot


@compiled
def take(ring: Ring, bits: UInt32) -> int:
    """Close the slot of the oldest waiting event with these features and return it; -1 if there is none."""
    size = ring.key.shape[0]
    ring.head[1] = max(ring.head[1], ring.head[0] - size)
    while ring.head[1] < ring.head[0] and not ring.open[ring.head[1] % size]:
        ring.head[1] += 1
    if ring.head[1] == ring.head[0]:
        return -1
    key = key_of(bits)
    for i in range(ring.head[1], ring.head[0]):
        slot = i % size
        if ring.open[slot] and ring.key[slot] == key:
            ring.open[slot] = False
            return slot
    return -1


class Waiting:
    """A bounded store of what P parts said of C classes; the oldest events are forgotten first.

    An event is known again by its features, so nothing needs to be handed through from prediction to label.

    Examples
    --------
    >>> import numpy as np
    >>> store = Waiting(1, 2)
    >>> first, second = np.float32([[1.0], [2.0]]).view(np.uint32)
    >>> put(store.ring, first, 0), put(store.ring, second, 0)
    (0, 1)
    >>> take(store.ring, second), take(store.ring, second), take(store.ring, first)
    (1, -1, 0)
    """

    def __init__(self, n_parts: int, n_classes: int) -> None:
        self.ring = self._allocate(n_parts, n_classes)

    def grow(self, n_classes: int) -> None:
        """Make room for more classes, of which nothing was said so far."""
        old, (_, parts, classes) = self.ring, self.ring.said.shape
        if n_classes == classes:
            return
        self.ring = self._allocate(parts, n_classes)
        size, was = len(self.ring.key), len(old.key)
        stop = int(old.head[0])
        start = max(int(old.head[1]), stop - min(size, was))
        to, source = np.arange(start, stop) % size, np.arange(start, stop) % was
        for new, kept in zip(self.ring[:3], old[:3], strict=True):
            new[to] = kept[source]
        self.ring.said[to, :, :classes] = old.said[source]
        self.ring.head[:] = stop, start

    def snapshot(self) -> Snapshot:
        used = min(int(self.ring.head[0]), len(self.ring.key))
        arrays = {name: array[:used].copy() for name, array in self.ring._asdict().items() if name != "head"}
        return arrays | {"head": self.ring.head.copy()}, {}

    def restore(self, snapshot: Snapshot) -> None:
        arrays, _ = snapshot
        used = len(arrays["key"])
        if arrays["said"].shape[1:] != self.ring.said.shape[1:] or used > len(self.ring.key):
            raise CheckpointError(
                f"waiting: {arrays['said'].shape} events, parts and classes in the checkpoint, up to "
                f"{self.ring.said.shape} here; set trees and budget to what they were"
            )
        for name, mine in self.ring._asdict().items():
            if name == "head":
                mine[...] = arrays[name]
            else:
                mine[:used], mine[used:] = arrays[name], 0

    @staticmethod
    def _allocate(n_parts: int, n_classes: int) -> Ring:
        size = max(1, min(MOST_EVENTS, MOST_BYTES // (4 * n_parts * n_classes)))
        return Ring(
            np.zeros(size, np.uint64), np.zeros(size, np.bool_), np.zeros(size, np.int64),
            np.zeros((size, n_parts, n_classes), np.float32), np.zeros(2, np.int64),
        )  # fmt: skip
