"""One event at a time, river's way: `predict_one`, then `learn_one`.

`python -m benchmarks.one_event` prints events per second of CPU time in one thread, median and extremes of rounds,
for both mixtures and river's adaptive random forest of ten trees. A round gives every model the next events of the
stream, one model after the other. At the end it says whether a model that took the same events in blocks knows the
same, bit for bit.
"""

from __future__ import annotations

import argparse
import os
import time
from statistics import median
from typing import Any

from river import forest

from stream_moe import DriftMoE, DriftMoEData, open_stream
from stream_moe.rows import as_event
from stream_moe.types import Schema

STREAMS = ("electricity", "led_a")
PEER, PEER_WARM_UP, PEER_SHARE = "river's ARF, 10 trees", 1000, 10  # it learns its warm-up one by one, and is slow


def ours(schema: Schema) -> dict[str, Any]:
    return {"driftmoe": DriftMoE(schema, seed=1), "driftmoe-data": DriftMoEData(schema, seed=1)}


def per_second(model: Any, events: list[tuple[dict[str, Any], str]]) -> float:
    """Let a model predict and learn; return how many events a second of CPU time."""
    begin = time.process_time()
    for x, y in events:
        model.predict_one(x)
        model.learn_one(x, y)
    return len(events) / (time.process_time() - begin)


def measure(name: str, warm_up: int, events: int, rounds: int) -> None:
    """Print the rows of one stream."""
    stream = open_stream(name, seed=1)
    block, schema = next(iter(stream.blocks(warm_up + rounds * events))), stream.schema
    every = [(as_event(schema, x), schema.classes[y]) for x, y in zip(block.x, block.y, strict=True)]
    models, peer = ours(schema), forest.ARFClassifier(n_models=10, seed=1)
    for model in models.values():
        model.learn_many(block.x[:warm_up], block.y[:warm_up])
        model.predict_one(every[0][0])
    per_second(peer, every[max(0, warm_up - PEER_WARM_UP) : warm_up] or every[:1])
    found: dict[str, list[float]] = {what: [] for what in (*models, PEER)}
    for begin in range(warm_up, len(every), events):
        part = every[begin : begin + events]
        for what, model in models.items():
            found[what].append(per_second(model, part))
        found[PEER].append(per_second(peer, part[: max(1, len(part) // PEER_SHARE)]))
    for what, rates in found.items():
        equal = ""
        if what in models:
            again = ours(schema)[what]
            again.learn_many(block.x, block.y)
            equal = "yes" if again.digest == models[what].digest else "NO"
        print(
            f"| {name} | {what} | {median(rates):,.0f} ({min(rates):,.0f} - {max(rates):,.0f}) | "
            f"{median(rates) / median(found[PEER]):.1f} x | {equal} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.one_event", description=__doc__)
    parser.add_argument("--streams", default=",".join(STREAMS))
    parser.add_argument("--warm-up", type=int, default=20_000, help="events learnt before, in blocks")
    parser.add_argument("--events", type=int, default=3000, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}\n")
    print("| stream | model | events/s | of river's | as in blocks |\n| --- | --- | --- | --- | --- |")
    for name in options.streams.split(","):
        measure(name, options.warm_up, options.events, options.rounds)


if __name__ == "__main__":
    main()
