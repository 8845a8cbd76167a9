"""An expert of our own: the nearest class mean, where means, spreads and class shares fade.

Run it to see what it is worth on a stream, alone and in the default mixture:

    python -m examples.fading_means electricity
"""

from __future__ import annotations

import math
import sys
from typing import NamedTuple

import numpy as np

from stream_moe import open_stream, replay
from stream_moe.errors import ConfigError
from stream_moe.experts.base import Expert
from stream_moe.experts.state import ArrayState, keep
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.models.single import SingleExpert
from stream_moe.runtime.compiled import compiled
from stream_moe.types import Float32, Float64, Int32, Schema


class Means(NamedTuple):
    """All that the expert knows: arrays of a shape that the schema alone decides."""

    share: Float64  # [C] fading count of each class
    mass: Float64  # [C, d] fading count of the values behind each mean
    mean: Float64  # [C, d]
    total: Float64  # [d] fading count of the values behind each spread
    spread: Float64  # [d] mean squared distance of a value from the mean of its class


@compiled(_nrt=False)  # without numba's reference counts: nothing is allocated in here
def step(
    means: Means, fade: float, n_categories: Int32, x: Float32, y: Int32, weight: Float64, proba: Float64
) -> None:
    n_classes, n_features = means.mean.shape
    for t in range(x.shape[0]):
        # Test: log p(c) = log share - 1/2 squared distance in spreads, over the numeric features that are there.
        best = -math.inf
        for c in range(n_classes):
            score = -math.inf  # of a class that never came
            if means.share[c] > 0.0:
                score = math.log(means.share[c])
                for j in range(n_features):
                    if n_categories[j] == 0 and means.mass[c, j] > 0.0 and means.spread[j] > 0.0:
                        gap = np.float64(x[t, j]) - means.mean[c, j]
                        if not math.isnan(gap):
                            score -= 0.5 * gap * gap / means.spread[j]
            proba[t, c] = score
            best = max(best, score)
        norm = 0.0
        for c in range(n_classes):
            proba[t, c] = 1.0 if best == -math.inf else math.exp(proba[t, c] - best)
            norm += proba[t, c]
        for c in range(n_classes):
            proba[t, c] /= norm
        # Then train.
        c = y[t]
        if c < 0 or weight[t] <= 0.0:
            continue
        for other in range(n_classes):
            means.share[other] *= fade
        means.share[c] += weight[t]
        for j in range(n_features):
            if n_categories[j] > 0 or math.isnan(x[t, j]):
                continue
            means.mass[c, j] = fade * means.mass[c, j] + weight[t]
            means.total[j] = fade * means.total[j] + weight[t]
            gap = np.float64(x[t, j]) - means.mean[c, j]
            means.mean[c, j] += gap * weight[t] / means.mass[c, j]
            squared = gap * (np.float64(x[t, j]) - means.mean[c, j])
            means.spread[j] += (squared - means.spread[j]) * weight[t] / means.total[j]


class FadingMeans(ArrayState):
    """Nearest class mean under fading memory; nominal features are left to others.

    Parameters
    ----------
    schema
        Features and classes.
    fade
        What an event's weight is multiplied by with each event learnt after it.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> y = rng.integers(0, 2, 1000).astype(np.int32)
    >>> x = rng.normal(y[:, None], 1, (1000, 3)).astype(np.float32)
    >>> expert, proba = FadingMeans(Schema.numeric(3, ["no", "yes"])), np.empty((1000, 2))
    >>> expert.step(x, y, np.ones(1000), proba)
    >>> bool((proba.argmax(1) == y).mean() > 0.75)  # knowing the means: 0.807
    True
    """

    kind = "fading-means"

    def __init__(self, schema: Schema, *, fade: float = 0.99) -> None:
        if not 0 < fade <= 1:
            raise ConfigError(f"{self.kind}: fade {fade} must lie in (0, 1]")
        self.n_classes, self.fade = schema.n_classes, fade
        self._n_categories = schema.n_categories
        self._means = _nothing(schema)

    def _parts(self) -> dict[str, Means]:
        """What `ArrayState` keeps, restores and counts."""
        return {"means": self._means}

    def step(self, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
        """Test then train, row by row; see `stream_moe.experts.base.Expert.step`."""
        step(self._means, self.fade, self._n_categories, x, y, weight, proba)

    def grow(self, schema: Schema) -> None:
        """Take a wider schema; what was learnt stays in the first corner of each array."""
        wider = _nothing(schema)
        keep(wider, self._means)
        self._means, self.n_classes, self._n_categories = wider, schema.n_classes, schema.n_categories


def _nothing(schema: Schema) -> Means:
    c, d = schema.n_classes, schema.n_features
    return Means(np.zeros(c), np.zeros((c, d)), np.zeros((c, d)), np.zeros(d), np.zeros(d))


class WithFadingMeans(DriftMoE):
    """The default mixture, and our expert beside its own."""

    def make_experts(self, schema: Schema) -> list[Expert]:
        return [*super().make_experts(schema), FadingMeans(schema)]


def main(name: str, events: int = 20_000) -> None:
    for what, make_learner in {
        "fading-means alone": lambda schema: SingleExpert(schema, expert=FadingMeans),
        "driftmoe": DriftMoE,
        "driftmoe with fading-means": WithFadingMeans,
    }.items():
        print(f"{what:<28}{replay(open_stream(name), make_learner, events=events).quality.accuracy:.2%}")


if __name__ == "__main__":
    main(sys.argv[1])
