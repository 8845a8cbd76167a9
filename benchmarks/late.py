"""Labels that come late: the default model, its best expert, and MOA's learners on the same events in the same order.

    python -m benchmarks.late [NAME:DELAY[:EVENTS] ...] [--seed 1] [--differ] [--labelled 1.0]
                              [--peers HT,KNN,SAM,LB10,SRP30,ARF30]

prints a Markdown table: accuracy in % (an event is predicted; its label comes DELAY events later), the log-loss, the
expected calibration error of the class answered (15 bins), the best of the own experts and the difference, and
the speed beside that with prompt labels (CPU time). A stream is what `stream-moe replay` opens, a NAME.csv.xz in
$STREAM_MOE_DATA, or one of `benchmarks.unseen` (seed 11). With --differ the delay of each label is drawn, exponential
with the mean DELAY; of the labels only the share --labelled ever comes, and all events are scored. With --peers
CapyMOA's learners follow (extra `baselines`; labels of one delay that all come).
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.unseen import STREAMS, Table, stored, tabled
from stream_moe.engine.delays import DelayedLabels
from stream_moe.errors import ConfigError, DataError
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.types import UNLABELLED, Block, Bool, Float64, Int32, Int64

EVENTS, ROWS, BINS = 60_000, 2048, 15
CELLS = [
    "interrbf:500", "interrbf:100", "chess:50", "weather:30", "weather:365", "powersupply:100", "electricity:100",
    "electricity:1000", "flights:1000", "covtype:1000", "phishing:125", "bananas:530", "image-segments:231",
    "led_a:500", "sea_a:1000", "rbf_f:200", "rbf_m:500", "agrawal:500", "hyperplane:500", "waveform:1000",
    "random-tree:1000", "recurring:500", "mixed:200", "sine:200", "rbf-drift:500",
]  # fmt: skip


def table_of(name: str, events: int, seed: int) -> Table:
    if name in STREAMS:
        return tabled(STREAMS[name](11), events)
    try:
        return stored(name, events, seed)
    except ConfigError:
        return stored(str(Path(os.environ.get("STREAM_MOE_DATA", "")) / f"{name}.csv.xz"), events, seed)


@dataclass(frozen=True, slots=True)
class Labels:
    """When labels come: `delay` events late, on the mean of an exponential distribution where they `differ`."""

    delay: int
    seed: int
    differ: bool = False
    labelled: float = 1.0

    def drawn(self, n: int) -> tuple[Int64, Bool]:
        """Of n events: the delays, and which labels come."""
        rng = np.random.default_rng(self.seed)
        delays = rng.exponential(self.delay, n).astype(np.int64) if self.differ else np.full(n, self.delay)
        return delays, rng.random(n) < self.labelled


def run(table: Table, late: Labels) -> tuple[DriftMoE, Float64, Int32, float]:
    """Return the model, what it answered, which label is right, both in the labels' order, and CPU-seconds."""
    x, y, schema = table
    delays, comes = late.drawn(len(y))
    model, labels, begin, answers = DriftMoE(schema, seed=late.seed), DelayedLabels(schema), time.process_time(), []
    for start in (*range(0, len(y), ROWS), len(y)):  # at last a block of no events, with all labels that are left
        rows = slice(start, start + ROWS)
        block = Block(x[rows], np.where(comes[rows], y[rows], np.int32(UNLABELLED)))
        joined = labels.join(block, y[rows], delays[rows], last=start == len(y))
        answers.append(joined.settle(model.step(joined.x, joined.y, tickets=joined.tickets)))
    said, true = (np.concatenate(part) for part in zip(*answers, strict=True))
    return model, said, true, time.process_time() - begin


def calibration_error(said: Float64, y: Int32) -> float:
    """How far the probability of the class answered is from how often it is right, on average over its bins."""
    sure, right = said.max(1), said.argmax(1) == y
    found = np.minimum((sure * BINS).astype(int), BINS - 1)
    return sum(abs(float((sure - right)[found == b].sum())) for b in range(BINS)) / len(y)


def line(name: str, table: Table, late: Labels) -> str:
    y = table[1]
    run((table[0][:ROWS], y[:ROWS], table[2]), replace(late, delay=min(late.delay, 100)))  # compiled from here on
    prompt = run(table, replace(late, delay=0))[3]
    model, said, true, seconds = run(table, late)
    best = max(model.report().experts, key=lambda expert: np.nan_to_num(expert.accuracy))
    right, loss = said.argmax(1) == true, -np.log(np.maximum(said[np.arange(len(y)), true], 1e-12))
    delays, comes = late.drawn(len(y))  # the experts' accuracies are over the labels that came
    same = right[comes[np.argsort(np.arange(len(y)) + delays, kind="stable")]]
    return (
        f"| {name} ({len(y):,}), {late.delay:,} late | **{100 * right.mean():.2f}** | {loss.mean():.4f} | "
        f"{calibration_error(said, true):.3f} | {100 * best.accuracy:.2f} {best.kind} | "
        f"{100 * (same.mean() - best.accuracy):+.2f} | {prompt / seconds:.2f} |"
    )


def peer(kind: str, table: Table, delay: int) -> float:
    """Accuracy in % of one of CapyMOA's learners."""
    import capymoa.classifier as learners
    from capymoa.stream import NumpyStream

    classes: dict[str, tuple[str, dict[str, Any]]] = {
        "HT": ("HoeffdingTree", {}),
        "KNN": ("KNN", {"k": 3, "window_size": 1000}),
        "SAM": ("SAMkNN", {}),
        "LB10": ("LeveragingBagging", {"ensemble_size": 10}),
        "SRP30": ("StreamingRandomPatches", {"ensemble_size": 30}),
        "ARF30": ("AdaptiveRandomForestClassifier", {"ensemble_size": 30}),
    }
    x, y, _ = table
    stream = NumpyStream(x.astype(float), y)
    name, options = classes[kind]
    model, waiting, right = getattr(learners, name)(schema=stream.get_schema(), **options), deque[Any](), 0
    while stream.has_more_instances():
        event = stream.next_instance()
        right += model.predict(event) == event.y_index
        waiting.append(event)
        if len(waiting) > delay:
            model.train(waiting.popleft())
    return 100 * right / len(y)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("cells", nargs="*", default=CELLS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--differ", action="store_true")
    parser.add_argument("--labelled", type=float, default=1.0)
    parser.add_argument("--peers", default="")
    options = parser.parse_args()
    peers = options.peers.split(",") if options.peers else []
    head = ["stream (events)", "driftmoe", "log-loss", "ECE", "best expert", "above it", "speed / prompt", *peers]
    print("| " + " | ".join(head) + " |")
    print("| " + " | ".join(["---"] * len(head)) + " |")
    for cell in options.cells:
        name, delay, events = (*cell.split(":"), EVENTS)[:3]
        try:
            table = table_of(name, int(events), options.seed)
        except (ConfigError, DataError) as error:
            parser.error(str(error))
        late = Labels(int(delay), options.seed, options.differ, options.labelled)
        print(line(name, table, late), *(f"{peer(kind, table, int(delay)):.2f} |" for kind in peers), flush=True)


if __name__ == "__main__":
    main()
