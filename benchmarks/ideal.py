"""The best that can be scored on SEA and on random RBF, told everything but the label, on the same events.

python -m benchmarks.ideal [--seeds 1,2,3] [--events 1000000]

SEA: the rule without noise, told each event's concept. RBF: the most probable class, told where every centre is and
how far its events scatter; one event in 50 is looked at.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np

from stream_moe.streams import kernels, open_stream
from stream_moe.streams.java_random import seeded
from stream_moe.streams.specs import parse
from stream_moe.types import Float64

ROWS = 10_000
EVERY = 50


def told_sea(name: str, seed: int, events: int) -> float:
    """Accuracy in %: noise turns labels and changes nothing else, so without it the labels are what the rule says."""
    blocks = open_stream(name, seed=seed).blocks(ROWS)
    rules = open_stream(f"{name}:noise=0", seed=seed).blocks(ROWS)
    right = sum(int((next(blocks).y == next(rules).y).sum()) for _ in range(events // ROWS))
    return 100 * right / (events // ROWS * ROWS)


def told_rbf(name: str, seed: int, events: int) -> float:
    """Accuracy in %."""
    [concept] = parse(name, seed).concepts
    options: dict[str, Any] = concept
    c, d, classes = options["centres"], options["features"], options["classes"]
    centres, velocity, deviations, weights = np.empty((c, d)), np.empty((c, d)), np.empty(c), np.empty(c)
    labels, random, spare = np.empty(c, np.int32), seeded(seed), np.full(1, np.nan)
    kernels.build_rbf(seeded(seed, 2), classes, centres, velocity, labels, deviations, weights, options["speed"])
    x, y = np.empty((EVERY, d), np.float32), np.empty(EVERY, np.int32)
    right = 0
    for _ in range(events // EVERY):
        for rows in (slice(1, None), slice(1)):  # the centres are then where they were for the last event
            kernels.fill_rbf(random, spare, centres, velocity, labels, deviations, weights, x[rows], y[rows])
        likely = _densities(x[0], centres, deviations) + np.log(weights)
        share = np.bincount(labels, np.exp(likely - likely.max()), classes)
        right += int(share.argmax() == y[0])
    return 100 * right / (events // EVERY)


def _densities(x: Any, centres: Float64, deviations: Float64) -> Float64:
    """Log density of an event from each centre, but for a constant.

    The distance is half-normal, the direction that of a uniform point of a cube, which has the density
    (largest component)^-d on the sphere.
    """
    offset = np.abs(x - centres)
    distance = np.sqrt((offset**2).sum(1))
    radial = -np.log(deviations) - 0.5 * (distance / deviations) ** 2
    return radial + np.log(distance) - centres.shape[1] * np.log(offset.max(1))


def main() -> None:
    """Print a row for each stream, a figure for each seed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    for name in ("sea_a", "sea_g", "rbf_m", "rbf_f", "rbf_m5", "rbf_f5"):
        told = told_sea if name.startswith("sea") else told_rbf
        scores = [told(name, int(seed), options.events) for seed in options.seeds.split(",")]
        print(f"{name}: {', '.join(f'{score:.2f}' for score in scores)}", flush=True)


if __name__ == "__main__":
    main()
