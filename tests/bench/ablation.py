"""What each part of the default mixture is worth: parts left out in turn, and each gate on its own.

    python -m tests.bench.ablation [STREAM ...] [--events N] [--seed S]

prints two Markdown tables: accuracy in % (test then train) with thousand events per CPU-second on one core, a part
left out in each column (a kind of experts, the trees' archive, sleep, a gate out of level 2); and every gate alone.
Without streams: all of `benchmarks.accuracy` and `recurring` of `benchmarks.unseen`; real ones are looked for in $STREAM_MOE_DATA.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from benchmarks import unseen
from stream_moe.experts.adaptive_tree import AdaptiveTree
from stream_moe.mixture import DriftMixture
from stream_moe.router import gates as kernel
from stream_moe.streams import open_stream
from stream_moe.types import Float32, Int32, Schema

STREAMS = [
    "electricity", "weather", "powersupply", "flights", "covtype", "rbf_f", "rbf_m", "rbf_f5", "rbf_m5", "led_a",
    "led_g", "sea_a", "sea_g",
    "recurring",
]  # fmt: skip
KINDS = [
    "adaptive-tree", "knn", "prototypes", "naive-bayes", "softmax", "averaged-softmax", "history-softmax",
    "value-rates", "no-change",
]  # fmt: skip
GATES = ["level 2", "geometric, all", "geometric, kinds", "share 0.2", "share 0.05", "recent"]
ROWS = 4096


def read(name: str, events: int, seed: int) -> tuple[Float32, Int32, Schema]:
    if name in unseen.STREAMS:
        return unseen.tabled(unseen.STREAMS[name](seed), events)
    stream = open_stream(name, seed=seed)
    x, y = [], []
    for block in stream.blocks(ROWS):
        x.append(block.x.copy())
        y.append(block.y.copy())
        if sum(map(len, y)) >= events:
            break
    return np.concatenate(x)[:events], np.concatenate(y)[:events], stream.schema


def build(schema: Schema, seed: int, part: str) -> DriftMixture:
    """Make the default mixture without a part."""
    model = DriftMixture(schema, seed=seed, without=part if part in KINDS else "")
    if part == "archive":
        for expert in model.pool.experts:
            if isinstance(expert, AdaptiveTree):
                expert._room = 0
    elif part == "sleep":
        model.sleep.may_sleep[:] = False
    elif part in GATES:  # a weight that starts at 0 stays there
        model.gates._arrays.second[GATES.index(part) - 1] = 0.0
    return model


def score(x: Float32, y: Int32, schema: Schema, seed: int, part: str) -> tuple[float, float]:
    """Accuracy in %, and events per CPU-second."""
    build(schema, seed, part).step(x[:1024], y[:1024])  # compiled from here on
    model = build(schema, seed, part)
    right, begin = 0, time.process_time()
    for s in range(0, len(y), ROWS):
        right += int((model.step(x[s : s + ROWS], y[s : s + ROWS]).argmax(1) == y[s : s + ROWS]).sum())
    return 100 * right / len(y), len(y) / (time.process_time() - begin)


def gate_scores(x: Float32, y: Int32, schema: Schema, seed: int) -> list[float]:
    """Accuracy in % of every gate, the committee and the best expert, in one pass of the default model."""
    model = DriftMixture(schema, seed=seed)
    arrays, row = model.gates._arrays, kernel.new_row(model.n_experts, schema.n_classes)
    spare = np.empty(model.n_experts)
    right = np.zeros(len(row.p))
    for s in range(0, len(y), ROWS):
        labels = y[s : s + ROWS]
        everyone = np.ones((model.n_experts, len(labels)))
        opinions = model.pool.step(x[s : s + ROWS], np.broadcast_to(labels, everyone.shape), everyone)
        for t, label in enumerate(labels):
            kernel.mix(arrays, opinions, t, row, spare)
            right += row.p.argmax(1) == label
            kernel.learn(arrays, row, label, 0)
    first = len(GATES)
    return [100 * float(n) / len(y) for n in (*right[:first], right[-1], right[first:-1].max())]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("streams", nargs="*", default=STREAMS)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    data = {name: read(name, given.events, given.seed) for name in given.streams}
    parts = [*KINDS, "archive", "sleep", *GATES[1:]]
    print("| stream | all |" + "".join(f" -{part} |" for part in parts))
    print("| --- |" + " --- |" * (len(parts) + 1))
    for name, stream in data.items():
        cells = [score(*stream, given.seed, without) for without in ("", *parts)]
        print(f"| {name} |" + "".join(f" {a:.2f}, {speed / 1000:.0f}k |" for a, speed in cells), flush=True)
    print("\n| stream |" + "".join(f" {name} |" for name in (*GATES, "trees' vote", "best expert")))
    print("| --- |" + " --- |" * (len(GATES) + 2))
    for name, stream in data.items():
        print(f"| {name} |" + "".join(f" {a:.2f} |" for a in gate_scores(*stream, given.seed)), flush=True)


if __name__ == "__main__":
    main()
