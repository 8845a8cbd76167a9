"""What an executor of the experts costs, and when it pays: threads, processes, Ray actors.

    python -m benchmarks.executors equal        digests of the three for blocks of 1, 7, 256 and 10,000 events
    python -m benchmarks.executors scatter      one scatter and gather without any work, 256 and 4,096 rows
    python -m benchmarks.executors experts      events per second with 10 to 1,000 experts; plots executors.png
    python -m benchmarks.executors default      CPU of the executor in threads beside another checkout: --against DIR

Ray is one local cluster of as many CPUs as there are cores, made for the run. The best of the repeats is reported:
noise of other work only ever adds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.growth import clusters
from stream_moe.experts.executors import Executor, open_pool
from stream_moe.experts.no_change import NoChange
from stream_moe.models.catalogue import build_model
from stream_moe.models.published.data import DriftMoEData
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.streams import open_stream
from stream_moe.types import Schema

EXECUTORS: tuple[Executor, ...] = ("threads", "processes", "ray")
EXPERTS = (10, 30, 100, 300, 1000)
CORES = os.cpu_count() or 1
PICTURE = Path(__file__).parents[1] / "docs" / "pictures" / "executors.png"


@contextmanager
def cluster() -> Iterator[None]:
    """A Ray cluster of this machine."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    ray.init(
        num_cpus=CORES, object_store_memory=200_000_000, include_dashboard=False, log_to_driver=False,
        logging_level="ERROR", _node_ip_address="127.0.0.1",
    )  # fmt: skip
    try:
        yield
    finally:
        ray.shutdown()


def close(pool: Any) -> None:
    if hasattr(pool, "close"):
        pool.close()


def equal(events: int) -> None:
    """Print a digest for each model, executor and size of block; leave with 1 where two differ."""
    wrong = 0
    for model in ("driftmoe-data", "driftmoe-task", "driftmoe"):
        source = open_stream("led_g", seed=1)
        block = next(source.blocks(events))
        found = dict[str, str]()
        for executor in EXECUTORS:
            options = {} if executor == "threads" else {"executor": executor, "shards": "2"}
            learner: Any = build_model(model, source.schema, options=options)
            begin = learner.snapshot()
            for rows in (1, 7, 256, 10_000):
                learner.restore(begin)
                for start in range(0, events, rows):
                    learner.step(block.x[start : start + rows], block.y[start : start + rows])
                found[f"{executor} {rows}"] = learner.digest
            close(learner.pool)
        states = sorted(set(found.values()))
        wrong += len(states) > 1
        told = f"EQUAL {states[0][:16]}" if len(states) == 1 else f"DIFFERENT {found}"
        print(f"{model:<14} {events} events, {len(found)} ways: {told}", flush=True)
    sys.exit(wrong > 0)


def scatter(repeats: int) -> None:
    """Milliseconds per run of experts that do next to nothing, 10 features, 2 classes, 2 shards."""
    schema = Schema.numeric(10, ["no", "yes"])
    print("| experts | executor | rows | best ms | median ms |\n| --- | --- | --- | --- | --- |")
    for n in (12, 300):
        for executor in EXECUTORS:
            pool: Any = open_pool(
                [NoChange(schema) for _ in range(n)], WorkerThreads(1), executor, 0 if executor == "threads" else 2
            )
            for rows in (256, 4096):
                x = np.random.default_rng(1).random((rows, 10), dtype=np.float32)
                y, weight = np.broadcast_to(np.zeros(rows, np.int32), (n, rows)), np.ones((n, rows))
                taken = list[float]()
                for _ in range(repeats):
                    begin = time.perf_counter()
                    pool.step(x, y, weight)
                    taken.append(1e3 * (time.perf_counter() - begin))
                best, median = min(taken), statistics.median(taken)
                print(f"| {n} | {executor} | {rows} | {best:.2f} | {median:.2f} |", flush=True)
            close(pool)


def experts(repeats: int, out: Path) -> None:
    """Events per second of driftmoe-data, k = a quarter of the experts, 10 features, 2 classes."""
    ways: list[tuple[str, dict[str, Any]]] = [
        ("threads, 1", {}),
        (f"threads, {CORES}", {"threads": CORES}),
        (f"processes, {CORES}", {"executor": "processes", "shards": CORES}),
        (f"ray, {CORES}", {"executor": "ray", "shards": CORES}),
    ]
    x, y = clusters(10, 2)
    schema = Schema.numeric(10, ["0", "1"])
    print("| experts | " + " | ".join(name for name, _ in ways) + " |\n|" + " --- |" * (len(ways) + 1))
    table = list[dict[str, Any]]()
    for n in EXPERTS:
        rows = 256 * max(1, 300 // n)
        learners: dict[str, Any] = {
            name: DriftMoEData(schema, n_experts=n, top_k=max(1, n // 4), **given) for name, given in ways
        }
        best = dict.fromkeys(learners, 0.0)
        for repeat in range(repeats + 2):  # in turn, so that all meet the same noise; first it is loaded and compiled
            at = np.arange(repeat * rows, (repeat + 1) * rows) % len(x)
            for name, learner in learners.items():
                begin = time.perf_counter()
                learner.step(x[at], y[at])
                if repeat >= 2:
                    best[name] = max(best[name], rows / (time.perf_counter() - begin))
        if len({learner.digest for learner in learners.values()}) > 1:
            sys.exit(f"{n} experts: the executors differ")
        for learner in learners.values():
            close(learner.pool)
        table.append({"experts": n, **best})
        print(f"| {n} | " + " | ".join(f"{rate:,.0f}" for rate in best.values()) + " |", flush=True)
    draw(table, out)


def draw(table: list[dict[str, Any]], out: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), dpi=110)
    for name in list(table[0])[1:]:
        axes.plot([row["experts"] for row in table], [row[name] for row in table], marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel="experts", ylabel="events per second")
    axes.set_title(f"driftmoe-data by executor, {CORES} cores", loc="left")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(out)
    print(f"\n{out}")


ONE = """
import json, sys, time
import numpy as np
from stream_moe.models import build_model
from stream_moe.streams import open_stream
model, events = sys.argv[1], int(sys.argv[2])
source = open_stream("rbf_f", seed=1)
stream = source.blocks(4096)
blocks = [next(stream) for _ in range(events // 4096)]
build_model(model, source.schema).step(blocks[0].x, blocks[0].y)
learner = build_model(model, source.schema)
begin = time.process_time()
for block in blocks:
    learner.step(block.x, block.y)
print(json.dumps([time.process_time() - begin, learner.digest]))
"""


def default(repeats: int, against: Path) -> None:
    """CPU seconds of the executor in threads in this checkout and in another, in turn."""
    here = Path(__file__).parents[1]
    for model, events in (("driftmoe-data", 131_072), ("driftmoe", 32_768)):
        taken: dict[Path, list[float]] = {here: [], against: []}
        states = set[str]()
        for _ in range(repeats):
            for folder, seconds in taken.items():
                command = [sys.executable, "-c", ONE, model, str(events)]
                environment = {**os.environ, "PYTHONPATH": str(folder)}
                done = subprocess.run(
                    command, cwd=folder, env=environment, capture_output=True, text=True, check=True
                )
                cpu, digest = json.loads(done.stdout)
                seconds.append(cpu)
                states.add(digest)
        ratio = statistics.median(a / b for a, b in zip(*taken.values(), strict=True))
        print(
            f"{model}, {events:,} events: {min(taken[here]):.2f} s of CPU here, {min(taken[against]):.2f} s there, "
            f"median of {repeats} pairs {ratio:.3f}; {'the same state' if len(states) == 1 else 'OTHER STATES'}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["equal", "scatter", "experts", "default"])
    parser.add_argument("--events", type=int, default=3000)
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--out", type=Path, default=PICTURE)
    parser.add_argument("--against", type=Path)
    given = parser.parse_args()
    if given.what == "default":
        default(given.repeats or 5, given.against.resolve())
        return
    with cluster():
        if given.what == "equal":
            equal(given.events)
        elif given.what == "scatter":
            scatter(given.repeats or 300)
        else:
            experts(given.repeats or 12, given.out)


if __name__ == "__main__":
    main()
