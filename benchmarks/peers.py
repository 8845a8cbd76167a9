"""The peers, one process per run, one JSON line each: MOA's tree by CapyMOA, and DriftMoEData event by event.

    python -m benchmarks.peers moa-tree|arf-10|arf-100|published STREAM EVENTS SEED

STREAM is led, sea, rbf_f, led_a or sea_a, or the path of an .arff file. `published` is MoE-Data of
arXiv 2507.18464 as its paper describes it: one event at a time in Python over CapyMOA's trees, test then train.
"""

from __future__ import annotations

import json
import os
import sys
import time
from itertools import pairwise
from typing import Any

EXPERTS, TOP_K, MINI_BATCH, TEMPERATURE = 12, 3, 256, 0.8


def open_stream(name: str, seed: int) -> Any:
    """Build a stream of CapyMOA's, equal to ours of the same name."""
    if name.endswith(".arff"):
        from capymoa.stream import ARFFStream

        return ARFFStream(path=name)
    from capymoa.stream.drift import DriftStream, GradualDrift
    from capymoa.stream.generator import SEA, LEDGeneratorDrift, RandomRBFGeneratorDrift

    def led(drifting: int) -> Any:
        return LEDGeneratorDrift(number_of_attributes_with_drift=drifting, instance_random_seed=seed)

    def sea(function: int) -> Any:
        return SEA(function=function, instance_random_seed=seed)

    def composed(concepts: list[Any]) -> Any:
        parts = [concepts[0]]
        for position, concept in zip((249_975, 499_975, 749_975), concepts[1:], strict=True):
            parts += [GradualDrift(width=50, position=position), concept]
        return DriftStream(stream=parts)

    if name == "rbf_f":
        seeds = {"instance_random_seed": seed, "model_random_seed": seed}
        return RandomRBFGeneratorDrift(number_of_drifting_centroids=50, magnitude_of_change=0.001, **seeds)
    builders = {
        "led": lambda: led(1),
        "sea": lambda: sea(1),
        "led_a": lambda: composed([led(k) for k in (1, 3, 5, 7)]),
        "sea_a": lambda: composed([sea(f) for f in (1, 2, 4, 1)]),
    }
    return builders[name]()


def in_java(system: str, stream: Any, events: int) -> tuple[float, float]:
    """Accuracy and seconds of MOA's Hoeffding tree or random forest, the whole test-then-train loop in Java."""
    from capymoa.classifier import AdaptiveRandomForestClassifier, HoeffdingTree
    from capymoa.evaluation import prequential_evaluation

    schema = stream.get_schema()
    if system == "moa-tree":
        model = HoeffdingTree(schema=schema, grace_period=50, confidence=1e-7)
    else:
        model = AdaptiveRandomForestClassifier(schema=schema, ensemble_size=int(system.removeprefix("arf-")))
    start = time.perf_counter()
    result = prequential_evaluation(stream, model, max_instances=events, window_size=max(1, events // 10))
    return result.cumulative.accuracy() / 100, time.perf_counter() - start


def published(stream: Any, events: int, seed: int) -> tuple[float, float]:
    """Accuracy and seconds of the published mixture, per event."""
    import numpy as np
    import torch
    from capymoa.classifier import HoeffdingTree

    torch.manual_seed(seed)
    schema = stream.get_schema()
    n_classes = schema.get_num_classes()
    trees = [HoeffdingTree(schema=schema, grace_period=50, confidence=1e-7) for _ in range(EXPERTS)]
    widths = (schema.get_num_attributes(), 256, 128, EXPERTS)
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(widths):
        linear = torch.nn.Linear(inputs, outputs)
        torch.nn.init.xavier_uniform_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
        layers += [linear, torch.nn.ReLU()]
    router = torch.nn.Sequential(*layers[:-1])
    adam = torch.optim.Adam(router.parameters(), lr=2e-3)
    right, waiting = 0, []
    start = time.perf_counter()
    for _ in range(events):
        event = stream.next_instance()
        logits = router(torch.as_tensor(np.asarray(event.x, np.float32)))
        weights = torch.softmax(logits.detach() / TEMPERATURE, 0).numpy()
        proba = np.full((EXPERTS, n_classes), 1 / n_classes)
        for e, tree in enumerate(trees):
            said = tree.predict_proba(event)
            if said is not None:
                proba[e] = 0
                proba[e, : len(said)] = said
        correct = proba.argmax(1) == event.y_index
        right += bool(correct[weights.argmax()])
        if not correct.any():
            correct[proba[:, event.y_index].argmax()] = True
        waiting.append((logits, torch.as_tensor(correct, dtype=torch.float32)))
        if len(waiting) == MINI_BATCH:
            said_all, wanted = (torch.stack(part) for part in zip(*waiting, strict=True))
            loss = torch.nn.functional.binary_cross_entropy_with_logits(said_all, wanted)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            waiting = []
        for e in np.argsort(-weights)[:TOP_K]:
            trees[e].train(event)
    return right / events, time.perf_counter() - start


def main(system: str, name: str, events: int, seed: int) -> None:
    stream = open_stream(name, seed)
    run = published(stream, events, seed) if system == "published" else in_java(system, stream, events)
    accuracy, seconds = run
    print(json.dumps({"accuracy": accuracy, "events_per_second": events / seconds}), flush=True)
    os._exit(0)  # Java's threads would keep the process alive


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
