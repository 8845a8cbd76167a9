"""How far a two-stage mixture is: what it counts and keeps of the first half."""

from __future__ import annotations

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.models.published.clusters import Clusters
from stream_moe.ranges import INPUT, expect, index, number
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Int32


class Stage:
    """Counts the labelled events of the first half, and keeps those of the burn-in until their clusters are found.

    Parameters
    ----------
    burn_in
        Labelled events to be clustered; 0 = there are no clusters.
    first_half
        Labelled events that experts learn, the burn-in among them.
    most
        Clusters that there may be.
    n_features, n_classes
        Of the events.
    """

    def __init__(self, burn_in: int, first_half: int, most: int, n_features: int, n_classes: int) -> None:
        self._n_classes = n_classes
        self.burn_in, self.first_half, self.most = burn_in, first_half, most
        self.learnt = 0  # labelled events of the first half so far
        self.clusters: Clusters | None = None
        self._x, self._y = np.empty((burn_in, n_features), np.float32), np.empty(burn_in, np.int32)

    @property
    def burning_in(self) -> bool:
        return self.burn_in > 0 and self.clusters is None

    @property
    def in_first_half(self) -> bool:
        return self.learnt < self.first_half

    @property
    def room(self) -> int:
        """How many more labelled events there are before the burn-in, or else the first half, ends."""
        return (self.burn_in if self.burning_in else self.first_half) - self.learnt

    def take(self, x: Float32, y: Int32) -> None:
        """Count the labelled of events x [n, d] that were learnt; of the burn-in, keep them too."""
        labelled = y >= 0
        new = slice(self.learnt, self.learnt + int(labelled.sum()))
        self.learnt = new.stop
        if self.burning_in:
            self._x[new], self._y[new] = x[labelled], y[labelled]

    @property
    def kept(self) -> tuple[Float32, Int32]:
        """The events of the burn-in so far, and their labels."""
        held = self.learnt if self.burning_in else 0
        return self._x[:held], self._y[:held]

    def end_burn_in(self, clusters: Clusters) -> None:
        """Go by these clusters from now on; the events they were found in are let go."""
        self.clusters = clusters
        self._x, self._y = np.empty((0, self._x.shape[1]), np.float32), np.empty(0, np.int32)

    def grow(self, n_features: int, n_classes: int) -> None:
        """Take new features, which the events so far did not have; clusters go by those they were found in."""
        more = np.full((len(self._x), n_features - self._x.shape[1]), np.nan, np.float32)
        self._x, self._n_classes = np.concatenate([self._x, more], 1), n_classes

    def snapshot(self) -> Snapshot:
        x, y = self.kept
        clusters = self.clusters.arrays() if self.clusters else {}
        return {"x": x.copy(), "y": y.copy()} | clusters, {"learnt": self.learnt}

    def restore(self, snapshot: Snapshot) -> None:
        arrays, plain = snapshot
        n_features = self._x.shape[1]
        x, y = arrays["x"], arrays["y"]
        self.learnt = number("stage", plain, "learnt")
        clusters = Clusters.restored(arrays, n_features, self.most)
        held = self.learnt if self.burn_in and clusters is None else 0
        if x.shape != (held, n_features) or y.shape != (held,) or held > self.burn_in:
            raise CheckpointError(
                f"two stages: {x.shape} values and {y.shape} labels in the burn-in, here it has {held} events of "
                f"{n_features} features, and {self.burn_in} at its end"
            )
        expect("stage", arrays, "x", np.float32, x.shape, INPUT)
        expect("stage", arrays, "y", np.int32, y.shape, index(self._n_classes))
        self.clusters = None
        if clusters is not None:
            self.end_burn_in(clusters)
        self._x[:held], self._y[:held] = x, y
