"""What MOA's generators give for the names of our streams; needs CapyMOA 0.15.1 and Java 17.

    python -m tests.parity.dump_moa EVENTS SEED NAME...

prints facts for `moa_streams.jsonl`, {name, events, seed, sha256}: the hash of the bytes of x (float32 [n, d], C
order) followed by those of y (int32 [n]), for the first EVENTS events. `led_g` is composed by CapyMOA, `led_g_moa`
by MOA itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import Any

import numpy as np

from stream_moe.streams.specs import parse
from stream_moe.types import Float32, Int32


def open_moa(name: str, seed: int) -> Any:
    """Return CapyMOA's stream of what one of our names stands for."""
    from capymoa.stream import drift  # type: ignore[import-not-found, unused-ignore]

    spec = parse(name, seed)
    concepts = [_generator(spec.generator, concept) for concept in spec.concepts]
    if spec.drifts is None:
        return concepts[0]
    parts = concepts[:1]
    for position, width, concept in zip(spec.drifts.positions, spec.drifts.widths, concepts[1:], strict=True):
        parts += [drift.GradualDrift(position=position, width=width), concept]
    stream = drift.DriftStream(stream=parts)
    return stream.to_moa_stream() if spec.drifts.ramp == "moa" else stream


def _generator(name: str, concept: dict[str, Any]) -> Any:
    from capymoa.stream import generator as g

    def percent(option: str) -> int:
        return round(100 * concept[option])

    seed = concept["seed"]
    match name:
        case "led":
            return g.LEDGeneratorDrift(
                instance_random_seed=seed, noise_percentage=percent("noise"),
                number_of_attributes_with_drift=concept["drifting"],
            )  # fmt: skip
        case "sea":
            return g.SEA(instance_random_seed=seed, function=concept["function"], noise_percentage=percent("noise"))
        case "rbf":
            return g.RandomRBFGeneratorDrift(
                model_random_seed=concept["model"], instance_random_seed=seed,
                number_of_classes=concept["classes"], number_of_attributes=concept["features"],
                number_of_centroids=concept["centres"], number_of_drifting_centroids=concept["centres"],
                magnitude_of_change=concept["speed"],
            )  # fmt: skip
        case "agrawal":
            return g.AgrawalGenerator(
                instance_random_seed=seed, classification_function=concept["function"],
                peturbation=concept["perturbation"],
            )  # fmt: skip
        case "hyperplane":
            return g.HyperPlaneClassification(
                instance_random_seed=seed, number_of_attributes=concept["features"],
                number_of_drifting_attributes=concept["drifting"], magnitude_of_change=concept["speed"],
                noise_percentage=percent("noise"), sigma_percentage=percent("reversal"),
            )  # fmt: skip
        case "tree":
            return g.RandomTreeGenerator(
                instance_random_seed=seed, tree_random_seed=concept["model"], num_classes=concept["classes"],
                num_nominals=concept["nominal"], num_numerics=concept["numeric"],
                num_vals_per_nominal=concept["values"], max_tree_depth=concept["depth"],
                first_leaf_level=concept["first_leaf"], leaf_fraction=concept["leaf_share"],
            )  # fmt: skip
        case "sine":
            return g.SineGenerator(
                instance_random_seed=seed, classification_function=concept["function"],
                suppress_irrelevant_attributes=concept["irrelevant"] == 0,
            )  # fmt: skip
        case "mixed":
            return g.MixedGenerator(instance_random_seed=seed, function=concept["function"])
        case "stagger":
            return g.STAGGERGenerator(instance_random_seed=seed, classification_function=concept["function"])
    raise ValueError(name)


def take(name: str, events: int, seed: int) -> tuple[Float32, Int32]:
    """Return the first events of MOA's stream, x float32 [n, d] and y int32 [n]."""
    stream = open_moa(name, seed)
    x = np.empty((events, stream.get_schema().get_num_attributes()), np.float32)
    y = np.empty(events, np.int32)
    for t in range(events):
        instance = stream.next_instance()
        x[t], y[t] = instance.x, instance.y_index
    return x, y


def main(name: str, events: int, seed: int) -> None:
    """Print the fact about one stream."""
    x, y = take(name, events, seed)
    digest = hashlib.sha256(x.tobytes() + y.tobytes()).hexdigest()
    print(json.dumps({"name": name, "events": events, "seed": seed, "sha256": digest}), flush=True)


if __name__ == "__main__":
    for argument in sys.argv[3:]:
        main(argument, int(sys.argv[1]), int(sys.argv[2]))
    os._exit(0)  # Java's worker threads would keep the process alive
