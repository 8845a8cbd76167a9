"""How cost grows: microseconds per event of driftmoe-data against events, experts, features, classes, threads, and
of the router against its width.

    python -m benchmarks.growth [--out DIR]

Writes DIR/growth.json and DIR/growth.svg. One axis moves at a time, from 12 experts, 10 features, 2 classes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from stream_moe.models.published.data import DriftMoEData
from stream_moe.router.published.mini_batch import MiniBatch
from stream_moe.router.published.mlp import Router
from stream_moe.types import Float32, Int32, Schema

BLOCK, BLOCKS = 2048, 12
AXES: dict[str, list[int]] = {
    "events": [100_000, 300_000, 1_000_000, 3_000_000, 10_000_000],
    "experts": [12, 24, 48, 96],
    "features": [10, 50, 100, 250, 500],
    "classes": [2, 5, 10, 30, 100],
    "threads": [1, 2],
    "router width": [64, 128, 256, 512, 1024],
}


def clusters(features: int, classes: int) -> tuple[Float32, Int32]:
    """Gaussian clusters, three per class: something for the trees to learn, whatever the size."""
    rng = np.random.default_rng(1)
    centres = rng.random((3 * classes, features), dtype=np.float32)
    which = rng.integers(0, 3 * classes, BLOCK * BLOCKS)
    x = centres[which] + 0.1 * rng.standard_normal((BLOCK * BLOCKS, features), dtype=np.float32)
    return x, (which % classes).astype(np.int32)


def cost(experts: int = 12, features: int = 10, classes: int = 2, threads: int = 1) -> float:
    """Median microseconds per event over the blocks after the first four."""
    x, y = clusters(features, classes)
    schema = Schema.numeric(features, [str(c) for c in range(classes)])
    model = DriftMoEData(schema, n_experts=experts, threads=threads)
    taken = []
    for start in range(0, len(x), BLOCK):
        begin = time.perf_counter()
        model.step(x[start : start + BLOCK], y[start : start + BLOCK])
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[4:]) / BLOCK * 1e6


def cost_over_time(marks: list[int]) -> list[float]:
    """Microseconds per event of the last 100,000 events before each mark, on one endless stream."""
    from stream_moe.streams import open_stream

    stream = open_stream("rbf_f")
    model, costs, done, recent = DriftMoEData(stream.schema), [], 0, 0.0
    for block in stream.blocks(100_000):
        begin = time.perf_counter()
        model.step(block.x, block.y)
        recent, done = time.perf_counter() - begin, done + len(block)
        if done in marks:
            costs.append(recent / len(block) * 1e6)
        if done >= marks[-1]:
            return costs
    return costs


def router_cost(width: int) -> float:
    x = np.random.default_rng(1).random((256, 24), dtype=np.float32)
    target, everyone = np.zeros((256, 12), np.float32), np.ones(256, np.bool_)
    batch, taken = MiniBatch(Router(24, 12, hidden=(width, width // 2)), 256), []
    for _ in range(40):
        begin = time.perf_counter()
        batch.route(x)
        batch.remember(target, everyone)
        taken.append(time.perf_counter() - begin)
    return statistics.median(taken[10:]) / 256 * 1e6


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("bench"))
    out: Path = parser.parse_args().out
    found: dict[str, list[float]] = {}
    for axis, values in AXES.items():
        if axis == "events":
            found[axis] = cost_over_time(values)
        elif axis == "router width":
            found[axis] = [router_cost(value) for value in values]
        else:
            found[axis] = [cost(**{axis: value}) for value in values]
        print(
            f"{axis}: " + ", ".join(f"{v:,} {c:.2f} us" for v, c in zip(values, found[axis], strict=True)), flush=True
        )
    out.mkdir(parents=True, exist_ok=True)
    (out / "growth.json").write_text(json.dumps({"axes": AXES, "microseconds": found}, indent=2) + "\n")
    plot(found, out / "growth.svg")


def plot(found: dict[str, list[float]], path: Path) -> None:
    """One small log-log panel per axis; the grey line grows in proportion."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 3, figsize=(10, 6), layout="constrained")
    for panel, (axis, costs) in zip(panels.flat, found.items(), strict=True):
        values = AXES[axis]
        panel.loglog(values, costs, "o-", label="measured")
        if axis not in {"events", "threads"}:
            panel.loglog(
                values, [costs[0] * v / values[0] for v in values], color="0.8", zorder=0, label="in proportion"
            )
        panel.set(xlabel=axis, ylabel="us per event", ylim=(min(costs) / 2, 2 * max(costs)))
        panel.set_xticks(values, [f"{v:.0e}" if v >= 10_000 else str(v) for v in values])
        panel.yaxis.set_major_formatter("{x:g}")
        panel.minorticks_off()
    panels.flat[1].legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
