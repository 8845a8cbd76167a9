"""What each part of the default mixture is worth: parts left out in turn, and each gate on its own.

    python -m tests.bench.ablation [STREAM ...] [--events N] [--seed S] [--delay D]

prints two Markdown tables: accuracy in % (test then train) with thousand events per CPU-second on one core, a part
left out in each column (a kind of experts, the trees' archive, sleep, a gate out of level 2); and every gate alone.
Without streams: all of `benchmarks.accuracy` and `recurring` of `benchmarks.unseen`; real ones are looked for in $STREAM_MOE_DATA.
"""

from __future__ import annotations

import argparse
import time
from collections import deque

import numpy as np

from benchmarks import unseen
from stream_moe.experts.trees.adaptive import AdaptiveTree
from stream_moe.experts.pool import ExpertPool
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.router.gates import kernel
from stream_moe.streams import open_stream
from stream_moe.types import UNLABELLED, Bool, Float32, Int32, Int64, Schema

STREAMS = [
    "electricity", "weather", "powersupply", "flights", "covtype", "rbf_f", "rbf_m", "rbf_f5", "rbf_m5", "led_a",
    "led_g", "sea_a", "sea_g",
    "recurring",
]  # fmt: skip
KINDS = [
    "adaptive-tree", "knn", "prototypes", "naive-bayes", "softmax", "averaged-softmax", "history-softmax",
    "target-encoding", "no-change",
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


def build(schema: Schema, seed: int, part: str) -> DriftMoE:
    """Make the default mixture without a part."""
    model = DriftMoE(schema, seed=seed, without=part if part in KINDS else "")
    if part == "archive":
        assert isinstance(model.pool, ExpertPool)
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


def gate_scores(x: Float32, y: Int32, schema: Schema, seed: int, delay: int) -> list[float]:
    """Accuracy in % of every gate, the committee and the best expert, in one pass of the default model."""
    model = DriftMoE(schema, seed=seed)
    arrays, row = model.gates._arrays, kernel.new_row(model.n_experts, schema.n_classes)
    spare = np.empty(model.n_experts)
    right = np.zeros(len(row.p))
    waiting: deque[kernel.Row] = deque()
    event, is_label = in_order(len(y), delay)
    for s in range(0, len(event), ROWS):
        rows = event[s : s + ROWS]
        labels = np.where(is_label[s : s + ROWS], y[rows], UNLABELLED).astype(np.int32)
        everyone = np.ones((model.n_experts, len(labels)))
        opinions = model.pool.step(x[rows], np.broadcast_to(labels, everyone.shape), everyone)
        for t, label in enumerate(labels):
            if label == UNLABELLED or not delay:
                kernel.mix(arrays, opinions, t, row, spare)
                waiting.append(kernel.Row(*(array.copy() for array in row)))
            if label != UNLABELLED:
                said = waiting.popleft()
                right += said.p.argmax(1) == label
                kernel.learn(arrays, said, label, delay, 1.0)
    first = len(GATES)
    return [100 * float(n) / is_label.sum() for n in (*right[:first], right[-1], right[first:-1].max())]


def in_order(n: int, delay: int) -> tuple[Int64, Bool]:
    """Return the rows as they come, int64 [m] which event, bool [m] whether it brings the label (of d events ago)."""
    if not delay:
        return np.arange(n), np.ones(n, np.bool_)
    pairs = np.stack([np.arange(n), np.arange(n) - delay], 1).ravel()
    is_label = np.tile([False, True], n)[pairs >= 0]
    return pairs[pairs >= 0], is_label


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("streams", nargs="*", default=STREAMS)
    parser.add_argument("--events", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--delay", type=int, default=0, help="of the labels; then only the gates are compared")
    given = parser.parse_args()
    data = {name: read(name, given.events, given.seed) for name in given.streams}
    if not given.delay:
        print_parts(data, given.seed)
    print("\n| stream |" + "".join(f" {name} |" for name in (*GATES, "trees' vote", "best expert")))
    print("| --- |" + " --- |" * (len(GATES) + 2))
    for name, stream in data.items():
        scores = gate_scores(*stream, given.seed, given.delay)
        print(f"| {name} |" + "".join(f" {a:.2f} |" for a in scores), flush=True)


def print_parts(data: dict[str, tuple[Float32, Int32, Schema]], seed: int) -> None:
    parts = [*KINDS, "archive", "sleep", *GATES[1:]]
    print("| stream | all |" + "".join(f" -{part} |" for part in parts))
    print("| --- |" + " --- |" * (len(parts) + 1))
    for name, stream in data.items():
        cells = [score(*stream, seed, without) for without in ("", *parts)]
        print(f"| {name} |" + "".join(f" {a:.2f}, {speed / 1000:.0f}k |" for a, speed in cells), flush=True)


if __name__ == "__main__":
    main()
