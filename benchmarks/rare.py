"""What costs, a threshold and class weights change for a rare class, and whether probabilities are calibrated.

`python -m benchmarks.rare` prints a table for each stream. Costs and thresholds are tried on the probabilities of
one run, as they change no state; each class weight is a run of its own. An error costs 1, a missed event of the rare
class `--dear`. The last columns are the expected calibration error of the most probable class, and of the rare class
alone (10 bins with as many events each, by its probability).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from stream_moe.answers import Answers
from stream_moe.evaluation.calibration import Calibration
from stream_moe.evaluation.metrics import Prequential
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import Block, Float64, Int32, Schema

DATA = Path("../shared/data")
BALANCED = 15_120  # the first rows of covtype have as many of each class
COLUMNS = ("class weight", "answer", "recall", "precision", "accuracy", "cost / 1,000", "ECE", "ECE rare")


def fraud(events: int, seed: int = 1) -> Iterator[Block]:
    """0.7 % of fraud, which overlaps with what is fair in 3 of 6 features; after half of the events in the others."""
    rng = np.random.default_rng(seed)
    for start in range(0, events, 4096):
        n = min(4096, events - start)
        y = (rng.random(n) < 0.007).astype(np.int32)
        x = rng.normal(size=(n, 6))
        first = (np.arange(start, start + n) < events // 2)[:, None]
        x[:, :3] += 1.3 * (y[:, None] * first)
        x[:, 3:] += 1.3 * (y[:, None] * ~first)
        yield Block(x.astype(np.float32), y)


def blocks(name: str, events: int) -> tuple[Schema, int, Iterator[Block]]:
    """Return the schema of a stream, its rare class, and its blocks."""
    if name == "fraud":
        return Schema.numeric(6, ["fair", "fraud"]), 1, fraud(events)
    stream = open_stream(str(DATA / f"{name}.csv.xz"))
    rare = {"covtype": "4", "weather": None, "electricity": "UP"}[name]
    skip = BALANCED if name == "covtype" else 0

    def cut() -> Iterator[Block]:
        done = 0
        for block in stream.blocks(4096):
            part = block.rest(max(0, skip - done)) if done < skip else block
            done += len(block)
            yield part.first(max(0, events + skip - done + len(part)))
            if done >= events + skip:
                return

    return stream.schema, stream.schema.classes.index(rare or stream.schema.classes[-1]), cut()


def run(name: str, model: str, events: int, rare: int, weight: float) -> tuple[Float64, Int32, float]:
    """Return predictions, labels and CPU seconds of a prequential run."""
    schema, _, each = blocks(name, events)
    weights = {schema.classes[rare]: weight} if weight != 1 else None
    learner = build_model(model, schema, class_weight=weights)
    begin, proba, labels = time.process_time(), [], []
    for block in each:
        if len(block):
            proba.append(learner.step(block.x, block.y))
            labels.append(block.y)
    return np.concatenate(proba), np.concatenate(labels), time.process_time() - begin


def rare_error(p: Float64, hit: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> float:
    """Expected calibration error of one class's probability, in 10 bins of equal count."""
    order = np.argsort(p, kind="stable")
    parts = zip(np.array_split(p[order], 10), np.array_split(hit[order], 10), strict=True)
    return float(np.mean([abs(part.mean() - right.mean()) for part, right in parts]))


def row(proba: Float64, y: Int32, rare: int, answers: Answers, costs: Answers) -> list[str]:
    quality, calibration = Prequential(proba.shape[1], answers), Calibration()
    quality.update(proba, y)
    calibration.update(proba, y)
    found = quality.report()
    total = costs.total(quality.confusion) or 0.0
    scores = found.class_recall[rare], found.class_precision[rare], found.accuracy
    return [
        *(f"{score:.2%}" for score in scores),
        f"{1000 * total / found.events:.2f}",
        f"{calibration.error:.4f}",
        f"{rare_error(proba[:, rare], y == rare):.4f}",
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", default="fraud,covtype,electricity")
    parser.add_argument("--model", default="driftmoe")
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--dear", type=float, default=30.0)
    parser.add_argument("--weights", default="1,5,30")
    given = parser.parse_args()
    for name in given.streams.split(","):
        schema, rare, _ = blocks(name, given.events)
        n = schema.n_classes
        dear = 1 - np.eye(n)
        dear[rare] *= given.dear
        costs, least = Answers(dear), 1 / (1 + given.dear)
        print(f"\n{name}, {given.model}: class {schema.classes[rare]}, a missed one costs {given.dear:g}")
        print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
        for weight in map(float, given.weights.split(",")):
            proba, y, seconds = run(name, given.model, given.events, rare, weight)
            rules = {
                "most probable": Answers(),
                "least cost": costs,
                f"from {least:.3f} on": Answers.threshold(rare, least, n),
            }
            for rule, answers in rules.items():
                print(
                    f"| {weight:g} | {rule} | " + " | ".join(row(proba, y, rare, answers, costs)) + " |", flush=True
                )
            share, always = np.mean(y == rare), (np.bincount(y, minlength=n) @ dear).min() / len(y)
            said = f"{len(y):,} events, {share:.2%} of the rare class, {seconds:.0f} s of CPU"
            print(f"  ({said}; always naming the cheapest class costs {1000 * always:.2f} / 1,000)", flush=True)


if __name__ == "__main__":
    main()
