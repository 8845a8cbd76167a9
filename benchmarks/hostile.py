"""Bad input for millions of events: what it costs the rest in accuracy, and that memory stays bounded.

    python -m benchmarks.hostile [--events 5000000] [--model driftmoe]

The clean stream is sea_g. Beside its three features the hostile one has: a constant, one that is always missing, one
that is now and then 1e308 or infinite, one that vanishes for good after a fifth, and an identifier that is another
number in each event. A third class appears after a fifth (a twentieth of the events from there on), every
hundredth event comes twice, and for 2,000 events out of 500,000 there is one label only. Accuracy is over the
events of the two old classes outside of such runs, so that both sides are asked the same.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import Bool, Float32, Int32, Schema

BLOCK = 10_000


def spoil(x: Float32, y: Int32, start: int, late: int, rng: np.random.Generator) -> tuple[Float32, Int32, Bool]:
    """The hostile form of a block, and which of its rows count."""
    n = len(x)
    worse = np.empty((n, 8), np.float32)
    worse[:, :3], worse[:, 3], worse[:, 4] = x, 7.0, np.nan
    with np.errstate(over="ignore"):
        worse[:, 5] = np.where(rng.random(n) < 0.01, np.float64(1e308), rng.random(n))
    worse[rng.random(n) < 0.005, 5] = -np.inf
    worse[:, 6] = x[:, 1] if start < late else np.nan
    worse[:, 7] = start + np.arange(n)
    y = y.copy()
    if start >= late:
        y[rng.random(n) < 0.05] = 2
    if (start // BLOCK) % 50 == 49:
        y[:2000] = 0
    worse[100::100], y[100::100] = worse[99:-1:100], y[99:-1:100]
    counts = y < 2
    counts[100::100] = False  # the clean stream has other events there
    counts[:2000] &= (start // BLOCK) % 50 != 49
    return worse, y, counts


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--model", default="driftmoe")
    options = parser.parse_args()
    stream, rng = open_stream("sea_g"), np.random.default_rng(1)
    clean = build_model(options.model, Schema.numeric(3, ["a", "b"]))
    hostile = build_model(options.model, Schema.numeric(8, ["a", "b", "late"]))
    right, seen, done, began = np.zeros(2), 0, 0, time.perf_counter()
    mark = max(options.events // 10, BLOCK)
    print("| events | clean | hostile | peak memory, MiB | events/s, both |\n| --- | --- | --- | --- | --- |")
    for block in stream.blocks(BLOCK):
        x, y, counts = spoil(block.x, block.y, done, options.events // 5, rng)
        proba = hostile.step(x, y)
        if not np.isfinite(proba).all():
            raise SystemExit(f"not a number in an answer to the events from {done}")
        answers = clean.step(block.x, block.y).argmax(1), proba[:, :2].argmax(1)
        right += [((answer == y) & counts).sum() for answer in answers]
        seen, done = seen + int(counts.sum()), done + len(block)
        if done % mark == 0:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            speed = 2 * done / (time.perf_counter() - began)
            scores = 100 * right / seen
            print(f"| {done:,} | {scores[0]:.2f} | {scores[1]:.2f} | {peak:.0f} | {speed:,.0f} |", flush=True)
        if done >= options.events:
            return


if __name__ == "__main__":
    main()
