"""A snapshot of all keys as of one moment, whose models are written while the stream goes on."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.models.keyed import record
from stream_moe.models.keyed.index import COLUMNS, NOWHERE, KeyIndex
from stream_moe.models.keyed.residents import Resident, Residents
from stream_moe.models.keyed.segments import Segments
from stream_moe.snapshot import Snapshot, keys_to_arrays, pack

TOGETHER = 256  # records of old segments that are copied with one read
_log = logging.getLogger(__name__)


class Barrier:
    """The keys as they stood when this was made, and what of their models has still to be written.

    A model that changed since it was last written is due. It is written when there is time for it, or at the last
    moment before it changes: whoever is about to step, evict or forget one that is due calls `save` first. So what is
    written is the state at the barrier whenever that is done, and no block waits for models that it does not touch.

    Parameters
    ----------
    index, residents, segments
        Of the learner. Where a model lies is told to the index too, so it is written once for both.
    worn
        Numbers of segments whose models are copied into the barrier's own.
    plain
        JSON values of the snapshot's keys.
    others
        Parts of the snapshot besides the keys.

    Attributes
    ----------
    due
        Keys of the models that are to be written, with their row in the snapshot's columns.
    pinned
        Numbers of the segments that the snapshot may come to name.
    """

    def __init__(
        self,
        index: KeyIndex,
        residents: Residents,
        segments: Segments,
        worn: Sequence[int],
        plain: dict[str, Any],
        others: dict[str, Snapshot],
    ) -> None:
        self._index, self._residents, self._segments = index, residents, segments
        self._plain, self._others = plain, others
        self._names, self._columns = list(index.slots), index.columns()
        changed = {key for key, resident in residents.held.items() if resident.changed}
        self.due = {key: row for row, key in enumerate(self._names) if key in changed}
        self._worn = self._groups(worn)
        self._own = segments.open()
        self.pinned = {*np.unique(self._columns["segment"]).tolist(), self._own} - {NOWHERE}
        self._whole = False
        self._result: Snapshot | None = None

    def save(self, key: bytes) -> None:
        """Write a model that is due as it is now."""
        row, slot = self.due.pop(key), self._index.slots[key]
        save(key, self._residents.held[key], self._index, self._segments, self._own)
        for name in COLUMNS:
            self._columns[name][row] = getattr(self._index, name)[slot]

    def advance(self, seconds: float) -> Snapshot | None:
        """Write models for about so long; give the snapshot, once, when all are written."""
        until = time.perf_counter() + seconds
        while not self._whole:
            if self.due:
                self.save(next(iter(self.due)))  # the one whose last label lies furthest back: it changes last
            elif self._worn:
                self._copy(self._worn.pop())
            else:
                self._end()
            if time.perf_counter() >= until:
                break
        result, self._result = self._result, None
        return result

    def complete(self) -> None:
        """Write all that is due; the next `advance` gives the snapshot."""
        self._result = self.advance(math.inf)

    def cancel(self) -> None:
        """There is no snapshot: the state that it was of is gone."""
        self.due, self._worn, self.pinned, self._whole = {}, [], set(), True

    def _groups(self, worn: Sequence[int]) -> list[list[int]]:
        """Rows whose models lie in these segments, so many together as are copied at once, as they lie there."""
        segment, offset = self._columns["segment"], self._columns["offset"]
        rows = np.flatnonzero(np.isin(segment, worn))
        rows = rows[np.lexsort((offset[rows], segment[rows]))]
        ends = np.flatnonzero(np.diff(segment[rows])) + 1
        parts = np.split(rows, ends) if len(rows) else []
        return [part[at : at + TOGETHER].tolist() for part in parts for at in range(0, len(part), TOGETHER)]

    def _copy(self, rows: list[int]) -> None:
        """Copy models from an old segment; where one has been written since, only the snapshot needs it."""
        columns, index = self._columns, self._index
        segment = columns["segment"][rows[0]]
        rows = [row for row in rows if columns["segment"][row] != self._own]
        spans = [(int(columns["segment"][r]), int(columns["offset"][r]), int(columns["length"][r])) for r in rows]
        try:
            contents = self._segments.read(spans)
        except CheckpointError as error:  # refused when one of their keys comes, and no sooner
            _log.warning("%s; its models are not copied", error)
            self._worn = [group for group in self._worn if columns["segment"][group[0]] != segment]
            return
        for row, span, content in zip(rows, spans, contents, strict=True):
            offset, slot = self._segments.append(self._own, content), index.slots.get(self._names[row])
            if slot is not None and (index.segment[slot], index.offset[slot]) == span[:2]:
                index.place(slot, self._own, offset, span[2], columns["digest"][row].tobytes())
            columns["segment"][row], columns["offset"][row] = self._own, offset

    def _end(self) -> None:
        segments, columns = self._segments, self._columns
        segments.seal(self._own)
        numbers, place = np.unique(columns["segment"], return_inverse=True)
        names = segments.publish(numbers.tolist())
        named = {"segments": names, "sizes": [segments.sizes[int(number)] for number in numbers]}
        arrays = keys_to_arrays(self._names) | columns | {"segment": place.astype(np.int32)}
        parts = {"keys": (arrays, self._plain | named), **self._others}
        if contents := segments.contents(names):
            parts["models"] = {name: np.frombuffer(content, np.uint8) for name, content in contents.items()}, {}
        self._result = pack(parts)
        self._whole, self.pinned = True, set()
        self._names, self._columns = [], {}
        drop_dead(self._index, segments, numbers.tolist())


def drop_dead(index: KeyIndex, segments: Segments, kept: Collection[int]) -> None:
    """Let the segments go that hold no model as it was last written, apart from those to be kept."""
    dead = [number for number in segments.names if index.live[number] == 0 and number not in kept]
    segments.drop(dead)
    for number in dead:
        del index.live[number]


def save(key: bytes, resident: Resident, index: KeyIndex, segments: Segments, number: int) -> None:
    """Write a model into an open segment, unless it is as it was last written."""
    if resident.changed:
        slot, content = index.slots[key], record.to_bytes(resident.model.snapshot())
        digest = record.digest(content)
        if index.segment[slot] == NOWHERE or digest != index.digest[slot].tobytes():
            packed = record.pack(content)
            index.place(slot, number, segments.append(number, packed), len(packed), digest)
        resident.changed = False
