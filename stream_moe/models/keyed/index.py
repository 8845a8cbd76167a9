"""Which keys are known, in the order of their last label, and where the model of each was last written."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.ranges import ANY, Range, expect, index
from stream_moe.snapshot import Arrays, keys_from_arrays

NOWHERE = -1  # of a model that was never written
COLUMNS = ("segment", "offset", "length", "digest")
_FIRST = 1024  # slots


class KeyIndex:
    """At most `max_keys` keys, each with a slot of the columns `segment`, `offset`, `length` and `digest`.

    What is forgotten depends on the order of the rows alone, not on how they are cut into blocks: at the first label
    of a key that is one too many, the key goes whose last label lies furthest back.

    Parameters
    ----------
    max_keys
        How many may be known.

    Attributes
    ----------
    forgotten
        Keys that had to go, over the life of the state.
    live
        Bytes of each segment, by its number, that hold a model as it was last written.

    Examples
    --------
    >>> index = KeyIndex(2)
    >>> index.cut([b"a", b"b", b"a", b"c", b"b"], [True] * 5, 0)  # "c" takes the place of "b", which then comes anew
    (3, 0)
    >>> index.touch([b"b", b"a"]), index.cut([b"c"], [True], 0), index.forget(1), index.touch([b"c"])
    ([True, True], (1, 1), [b'b'], [True])
    """

    def __init__(self, max_keys: int) -> None:
        self.max_keys = max_keys
        self.slots: OrderedDict[bytes, int] = OrderedDict()
        self.forgotten = 0
        self.live: Counter[int] = Counter()
        self._free: list[int] = []
        self._allocate(_FIRST)

    def __len__(self) -> int:
        return len(self.slots)

    def _allocate(self, size: int) -> None:
        self.segment = np.full(size, NOWHERE, np.int32)
        self.offset = np.zeros(size, np.int64)
        self.length = np.zeros(size, np.int64)
        self.digest = np.zeros((size, 32), np.uint8)

    def cut(self, keys: Sequence[bytes], learnt: Sequence[bool], start: int) -> tuple[int, int]:
        """Say up to which row the rows from `start` may be taken as one, and how many keys have to go before.

        Taken as one they must not hold a key that goes on the way: those that go are the ones used longest ago. A row
        that is not `learnt` is no use of its key.
        """
        room = self.max_keys - len(self.slots)
        if len(keys) - start <= room or (start == 0 and len(set(keys).difference(self.slots)) <= room):
            return len(keys), 0
        oldest, leaving, seen, known = iter(self.slots), set[bytes](), set[bytes](), set[bytes]()
        for row in range(start, len(keys)):
            key = keys[row]
            if key in known:
                continue
            if key in leaving:
                return row, len(leaving)
            if learnt[row]:
                if key not in self.slots:
                    if room > 0:
                        room -= 1
                    else:
                        first = next(oldest, None)
                        if first is None or first in seen:
                            return row, len(leaving)
                        leaving.add(first)
                known.add(key)
            seen.add(key)
        return len(keys), len(leaving)

    def forget(self, count: int) -> list[bytes]:
        """Let the keys go that were used longest ago."""
        gone = []
        for _ in range(count):
            key, slot = self.slots.popitem(last=False)
            self._leave_segment(slot)
            self.segment[slot] = NOWHERE
            self._free.append(slot)
            gone.append(key)
        self.forgotten += count
        return gone

    def touch(self, keys: Iterable[bytes]) -> list[bool]:
        """Say that these keys were used, the last one last; tell of each whether it is new."""
        new = []
        for key in keys:
            new.append(key not in self.slots)
            if new[-1]:
                self.slots[key] = self._free.pop() if self._free else self._next_slot()
            else:
                self.slots.move_to_end(key)
        return new

    def _next_slot(self) -> int:
        # Slots are handed out in order and come back through `_free`, so the next is as many as are in use.
        slot = len(self.slots)
        if slot == len(self.segment):
            old = self.segment, self.offset, self.length, self.digest
            self._allocate(2 * slot)
            self.segment[:slot], self.offset[:slot], self.length[:slot], self.digest[:slot] = old
        return slot

    def place(self, slot: int, segment: int, offset: int, length: int, digest: bytes) -> None:
        """Say where a model lies from now on."""
        self._leave_segment(slot)
        self.segment[slot], self.offset[slot], self.length[slot] = segment, offset, length
        self.digest[slot] = np.frombuffer(digest, np.uint8)
        self.live[segment] += length

    def _leave_segment(self, slot: int) -> None:
        if (segment := int(self.segment[slot])) != NOWHERE:
            self.live[segment] -= int(self.length[slot])

    def columns(self) -> Arrays:
        """Give a copy of the columns by last use; the segments by their numbers in this process."""
        slots = np.fromiter(self.slots.values(), np.int64, len(self.slots))
        return {name: getattr(self, name)[slots] for name in COLUMNS}

    def restore(self, arrays: Arrays, sizes: Sequence[int]) -> None:
        """Take keys and columns of a snapshot, the segments numbered from 0; `sizes` are their lengths in bytes."""
        keys = keys_from_arrays(arrays)
        n, bytes_ = (len(keys),), Range(0, max(sizes, default=0))
        segment = expect("keys", arrays, "segment", np.int32, n, index(len(sizes))).astype(np.int64)
        offset = expect("keys", arrays, "offset", np.int64, n, bytes_)
        length = expect("keys", arrays, "length", np.int64, n, Range(1, bytes_.high))
        digest = expect("keys", arrays, "digest", np.uint8, (*n, 32), ANY)
        if (offset + length > np.array(sizes, np.int64)[segment]).any():
            raise CheckpointError("keys: a model lies outside of its segment")
        if len(keys) > self.max_keys or len(set(keys)) != len(keys):
            raise CheckpointError(f"keys: {len(keys)} known, where {self.max_keys} different ones may be")
        self._allocate(max(_FIRST, len(keys)))
        self.slots = OrderedDict(zip(keys, range(len(keys)), strict=True))
        self.segment[: len(keys)], self.offset[: len(keys)] = segment, offset
        self.length[: len(keys)], self.digest[: len(keys)] = length, digest
        self._free = []
        self.live = Counter(dict(enumerate(np.bincount(segment, length, len(sizes)).astype(np.int64).tolist())))
