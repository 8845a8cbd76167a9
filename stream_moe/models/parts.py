"""What a learner's state is made of, and how it is handed out: in parts, at once or later, with files beside it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from stream_moe.snapshot import Snapshot


class PendingSnapshot(Protocol):
    """A snapshot as of the moment it was begun, of which a part may have to be written still."""

    def advance(self, seconds: float) -> Snapshot | None:
        """Go on for about so long; give the snapshot, once, when it is whole."""


class Taken:
    """A snapshot that was whole at once."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot: Snapshot | None = snapshot

    def advance(self, seconds: float) -> Snapshot | None:
        """As `PendingSnapshot.advance`."""
        whole, self._snapshot = self._snapshot, None
        return whole


class StateFiles(Protocol):
    """Files beside the checkpoints that hold a part of a learner's state."""

    def flush(self, named: Collection[str]) -> None:
        """Write those that a checkpoint names; called before the checkpoint is written."""

    def collect(self, named: Collection[str]) -> None:
        """Delete those that neither a checkpoint (`named`) nor the learner needs; called after it is written."""


class Part(Protocol):
    """A part of a learner, which keeps its own state."""

    def snapshot(self) -> Snapshot:
        """Return its state; arrays and values are copies."""

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot."""
