"""What every kind of expert offers: probabilities, learning, its state, and a description of itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Schema


class DriftCounts(NamedTuple):
    """What a detector has found in one expert's errors since the start."""

    warnings: int = 0
    drifts: int = 0
    resets: int = 0  # the expert, or a part of it, began anew
    returns: int = 0  # resets in which one that was replaced before came back


class Expert(ABC):
    """Anything that gives class probabilities and learns.

    All state is in `snapshot()`: named arrays and plain JSON values, never an object to unpickle. What a mixture must
    know of an expert stands below as attributes; the defaults are those of a cheap expert without a detector.

    Attributes
    ----------
    kind
        Its name in reports, metrics and checkpoints.
    n_classes
        C.
    detector
        The name of the detector with which it watches its own errors and resets itself; `drift_counts` counts for it.
        None = it has none, and the model's monitor counts the warnings and drifts of its errors.
    expensive
        Whether it may sleep while it carries no weight: it then predicts and learns a thin sample of the events.
    in_committee
        Whether it is one of the experts whose mean the gates weigh as one more expert.
    """

    kind: str
    n_classes: int
    detector: str | None = None
    expensive: bool = False
    in_committee: bool = False

    @abstractmethod
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

    @abstractmethod
    def grow(self, schema: Schema) -> None:
        """Take a schema with more features, categories or classes than before; nothing learnt is lost."""

    @abstractmethod
    def snapshot(self) -> Snapshot:
        """Return the whole state; the arrays are copies."""

    @abstractmethod
    def restore(self, snapshot: Snapshot) -> None:
        """Go back to a state; CheckpointError where it is not of such an expert."""

    @property
    def n_nodes(self) -> int:
        """Nodes of a tree; 0 for other kinds."""
        return 0

    @property
    def n_splits(self) -> int:
        """Splits of a tree so far; 0 for other kinds."""
        return 0

    @property
    def memory_bytes(self) -> int:
        """What the arrays take."""
        return 0

    @property
    def drift_counts(self) -> DriftCounts:
        """What its own detector has found."""
        return DriftCounts()


class ExpertFacts(NamedTuple):
    """An expert's description of itself as plain values, which an executor can send from elsewhere."""

    kind: str
    detector: str | None
    n_nodes: int
    n_splits: int
    memory_bytes: int
    drift_counts: DriftCounts


def facts_of(expert: Expert) -> ExpertFacts:
    """Read an expert's description of itself."""
    return ExpertFacts(*(getattr(expert, name) for name in ExpertFacts._fields))
