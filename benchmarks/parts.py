"""Speed of a part by itself: `python -m benchmarks.parts router` or `python -m benchmarks.parts trees THREADS ROWS`.

Prints events a second; `benchmarks.bench` runs it, each time in a process of its own.
"""

from __future__ import annotations

import argparse
import time

import numpy as np


def router(batches: int = 400) -> float:
    """The published router, 24-256-128-12: forward, backward and Adam, on one core."""
    from stream_moe.router.published.mini_batch import MiniBatch
    from stream_moe.router.published.mlp import Router

    rng = np.random.default_rng(1)
    x = rng.random((256, 24), dtype=np.float32)
    target = (rng.random((256, 12)) < 0.5).astype(np.float32)
    batch, everyone = MiniBatch(Router(24, 12), 256), np.ones(256, bool)
    for steps in (5, batches):  # the first few compile
        start = time.perf_counter()
        for _ in range(steps):
            batch.route(x)
            batch.remember(target, everyone)
    return 256 * batches / (time.perf_counter() - start)


def trees(threads: int, rows: int, events: int = 200_000) -> float:
    """Twelve Hoeffding trees, each of which learns a quarter of the events, in runs of so many rows."""
    from stream_moe.experts.pool import ExpertPool
    from stream_moe.experts.trees.hoeffding import HoeffdingTree
    from stream_moe.runtime.threads import WorkerThreads
    from stream_moe.streams import open_stream

    stream = open_stream("rbf_f")
    pool = ExpertPool([HoeffdingTree(stream.schema) for _ in range(12)], workers=WorkerThreads(threads))
    weight = (np.random.default_rng(1).random((12, rows)) < 0.25).astype(float)
    blocks = stream.blocks(rows)
    for count in (10_000, events):  # the first few compile
        made = [next(blocks) for _ in range(count // rows)]
        start = time.perf_counter()
        for block in made:
            pool.step(block.x, np.broadcast_to(block.y, (12, rows)), weight)
    return rows * len(made) / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__)
    parser.add_argument("part", choices=("router", "trees"))
    parser.add_argument("numbers", nargs="*", type=int, help="of trees: threads, rows in a run")
    options = parser.parse_args()
    print(router() if options.part == "router" else trees(*options.numbers))


if __name__ == "__main__":
    main()
