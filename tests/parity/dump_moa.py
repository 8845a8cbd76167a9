"""Print what MOA's generators give, as facts for `moa_streams.jsonl`; needs CapyMOA 0.15.1 and Java 17.

    python tests/parity/dump_moa.py NAME EVENTS SEED

prints {name, events, seed, sha256}, the hash of the bytes of x (float32 [n, d], C order) followed by those of
y (int32 [n]), for the first EVENTS events. `led_g` is composed by CapyMOA, `led_g_moa` by MOA itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

import numpy as np

PACES = {"a": (50, (249_975, 499_975, 749_975)), "g": (50_000, (225_000, 475_000, 725_000))}
SPEEDS = {"m": 0.0001, "f": 0.001}


def open_moa(name: str, seed: int) -> Any:
    """Return CapyMOA's stream of that name."""
    from capymoa.stream import drift, generator  # type: ignore[import-not-found, unused-ignore]

    base = name.removesuffix("_moa")
    kind, _, variant = base.partition("_")
    if kind == "rbf":
        return generator.RandomRBFGeneratorDrift(
            model_random_seed=seed, instance_random_seed=seed, number_of_classes=int(variant[1:] or 2),
            number_of_drifting_centroids=50, magnitude_of_change=SPEEDS[variant[0]],
        )  # fmt: skip
    if kind == "led":
        concepts = [
            generator.LEDGeneratorDrift(instance_random_seed=seed, number_of_attributes_with_drift=drifting)
            for drifting in (1, 3, 5, 7)
        ]
    else:
        concepts = [generator.SEA(instance_random_seed=seed, function=function) for function in (1, 2, 4, 1)]
    if not variant:
        return concepts[0]
    width, positions = PACES[variant]
    parts = concepts[:1]
    for position, concept in zip(positions, concepts[1:], strict=True):
        parts += [drift.GradualDrift(position=position, width=width), concept]
    stream = drift.DriftStream(stream=parts)
    return stream.to_moa_stream() if name != base else stream


def main(name: str, events: int, seed: int) -> None:
    """Print the fact about one stream."""
    stream = open_moa(name, seed)
    x = np.empty((events, stream.get_schema().get_num_attributes()), np.float32)
    y = np.empty(events, np.int32)
    for t in range(events):
        instance = stream.next_instance()
        x[t], y[t] = instance.x, instance.y_index
    digest = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    print(json.dumps({"name": name, "events": events, "seed": seed, "sha256": digest}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    os._exit(0)  # Java's worker threads would keep the process alive
