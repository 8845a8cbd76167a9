"""Streams that no setting was chosen on, beside MOA's random forest of 10 trees on the same events.

    python -m benchmarks.unseen [--streams A,B] [--events 50000] [--seed 11] [--peer PYTHON]

Data sets that river ships, river's generators with a seed of their own (`recurring`: three random trees in turn,
5,000 events each), and any stream that `stream-moe replay` knows, named in --streams. PYTHON is the interpreter of an
environment with CapyMOA, this one by default.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from river import datasets
from river.datasets import synth

from benchmarks import arff
from benchmarks.bench import shell
from stream_moe.errors import ConfigError
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.streams import open_stream
from stream_moe.types import Feature, Float32, Int32, Schema

Events = Iterable[tuple[dict[str, Any], Any]]
Table = tuple[Float32, Int32, Schema]
ROWS = 2048


def agrawal(seed: int) -> Events:
    return drifting(*(synth.Agrawal(classification_function=k, seed=seed, perturbation=0.05) for k in (0, 3, 6)))


def recurring(seed: int) -> Events:
    trees = [
        synth.RandomTree(seed_tree=seed + k, seed_sample=seed, n_num_features=5, n_cat_features=3) for k in range(3)
    ]
    streams = [iter(tree) for tree in trees]
    return (next(streams[t // 5000 % 3]) for t in itertools.count())


def drifting(*concepts: Events) -> Events:
    """Each concept for 17,000 events, abruptly the next."""
    return itertools.chain.from_iterable(itertools.islice(iter(c), 17_000) for c in concepts)


STREAMS: dict[str, Callable[[int], Events]] = {
    "phishing": lambda _: datasets.Phishing(),
    "bananas": lambda _: datasets.Bananas(),
    "image-segments": lambda _: datasets.ImageSegments(),
    "agrawal": agrawal,
    "hyperplane": lambda seed: synth.Hyperplane(seed=seed, n_features=10, n_drift_features=5, mag_change=0.001),
    "waveform": lambda seed: synth.Waveform(seed=seed, has_noise=True),
    "random-tree": lambda seed: synth.RandomTree(seed_tree=seed, seed_sample=seed, n_classes=3),
    "recurring": recurring,
    "mixed": lambda seed: drifting(*(synth.Mixed(classification_function=k, seed=seed) for k in (0, 1, 0))),
    "sine": lambda seed: drifting(
        *(synth.Sine(classification_function=k, seed=seed, has_noise=True) for k in range(3))
    ),
    "stagger": lambda seed: drifting(*(synth.STAGGER(classification_function=k, seed=seed) for k in range(3))),
    "rbf-drift": lambda seed: synth.RandomRBFDrift(
        seed_model=seed, seed_sample=seed, n_classes=4, n_features=8, n_centroids=40, change_speed=0.0005
    ),
}


def tabled(events: Events, n: int) -> Table:
    """The first n events as arrays; a text is a category."""
    rows, labels = zip(*itertools.islice(iter(events), n), strict=True)
    names, features, columns = list(rows[0]), [], []
    for name in names:
        values = [row[name] for row in rows]
        nominal = any(isinstance(value, str) for value in values)
        categories = tuple(sorted(set(values))) if nominal else None
        features.append(Feature(str(name), categories))
        columns.append([categories.index(v) for v in values] if categories else values)
    classes = sorted(set(labels))
    y = np.array([classes.index(label) for label in labels], np.int32)
    return np.array(columns, np.float32).T.copy(), y, Schema(tuple(features), tuple(map(str, classes)))


def stored(name: str, n: int, seed: int) -> Table:
    stream = open_stream(name, seed=seed)
    blocks: Iterator[Any] = itertools.islice(stream.blocks(ROWS), -(-n // ROWS))
    x, y = zip(*((block.x.copy(), block.y.copy()) for block in blocks), strict=True)
    return np.concatenate(x)[:n], np.concatenate(y)[:n], stream.schema


def forest(table: Table, python: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stream.arff"
        arff.write(path, *table)
        told = shell([python, "-m", "benchmarks.peers", "arf-10", str(path), str(len(table[1])), "1"])
    return 100 * float(json.loads(told.splitlines()[-1])["accuracy"])


def line(name: str, table: Table, seed: int, python: str) -> str:
    x, y, schema = table
    model = DriftMoE(schema, seed=seed)
    proba = np.concatenate([model.step(x[s : s + ROWS], y[s : s + ROWS]) for s in range(0, len(y), ROWS)])
    loss = -np.log(np.maximum(proba[np.arange(len(y)), y], 1e-12)).mean()
    experts = model.report().experts
    best = max(experts, key=lambda expert: expert.accuracy)
    same = next(100 * expert.accuracy for expert in experts if expert.kind == "no-change")
    returns = sum(expert.returns for expert in experts)
    cells = f"**{100 * (proba.argmax(1) == y).mean():.2f}** | {loss:.4f} | {100 * best.accuracy:.2f} {best.kind}"
    return f"| {name} ({len(y):,}) | {cells} | {forest(table, python):.2f} | {same:.2f} | {returns} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--streams", default=",".join(STREAMS))
    parser.add_argument("--events", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--peer", default=sys.executable)
    options = parser.parse_args()
    print("| stream (events) | driftmoe | log-loss | best expert | ARF-10 | no-change | trees come back |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in options.streams.split(","):
        try:
            known = STREAMS.get(name)
            table = (
                tabled(known(options.seed), options.events) if known else stored(name, options.events, options.seed)
            )
        except ConfigError as error:
            parser.error(str(error))
        print(line(name, table, options.seed, options.peer), flush=True)


if __name__ == "__main__":
    main()
