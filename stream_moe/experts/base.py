"""What every kind of expert offers to the pool."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Schema


class Expert(Protocol):
    """Anything that gives class probabilities and learns.

    All state is in `snapshot()`: named arrays and plain JSON values, never an object to unpickle.
    """

    kind: str
    n_classes: int

    def step(self, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
        """Test then train, row by row.

        Parameters
        ----------
        x
            float32 [n, d], nominal features as category index, NaN = missing, never infinite.
        y
            int32 [n], class index, -1 = unknown.
        weight
            float64 [n], how much to learn of each row; 0 = predict only.
        proba
            float64 [n, C], out: the class probabilities BEFORE the row was learnt; each row sums to 1.
        """

    def grow(self, schema: Schema) -> None:
        """Take a schema with more features, categories or classes than before; nothing learnt is lost."""

    def snapshot(self) -> Snapshot:
        """Return the whole state; the arrays are copies."""

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot."""

    @property
    def n_nodes(self) -> int:
        """Nodes of a tree; 0 for other kinds."""

    @property
    def n_splits(self) -> int:
        """Splits of a tree so far; 0 for other kinds."""

    @property
    def memory_bytes(self) -> int:
        """What the arrays take."""


class ExpertFacts(NamedTuple):
    """What an expert tells of itself, wherever it lives; the last four count what only some kinds have."""

    kind: str
    n_nodes: int
    n_splits: int
    memory_bytes: int
    n_warnings: int = 0
    n_swaps: int = 0
    n_returns: int = 0
    n_changes: int = 0


def facts_of(expert: Expert) -> ExpertFacts:
    """Read an expert's facts."""
    return ExpertFacts(
        expert.kind,
        expert.n_nodes,
        expert.n_splits,
        expert.memory_bytes,
        *(getattr(expert, name, 0) for name in ExpertFacts._fields[4:]),
    )
