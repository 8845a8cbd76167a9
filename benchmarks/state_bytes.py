"""What a learner's state takes as bytes, and the CPU to write and read them: `python -m benchmarks.state_bytes`."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import zstandard

from stream_moe import Schema, build_model, open_stream, restore_state, state_to_bytes
from stream_moe.streams.blocks import labelled_blocks

STREAMS, EVENTS = ["electricity", "led_a"], 45_000
MODELS = ["driftmoe", "driftmoe-data", "adaptive-tree", "hoeffding-tree", "softmax"]


def restored(model: str, schema: Schema, content: bytes) -> None:
    restore_state(build_model(model, schema), content)


def best(work: Callable[[], object], repeats: int = 15) -> float:
    """Milliseconds of CPU of the cheapest of several calls: other jobs hardly show in it."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        work()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def main() -> None:
    print(f"| after {EVENTS:,} events | model | MB | zstd, MB | written, CPU ms | built and read, CPU ms |")
    print("| --- " * 6 + "|")
    for stream in STREAMS:
        source = open_stream(stream)
        for model in MODELS:
            learner = build_model(model, source.schema)
            for block in labelled_blocks(source, EVENTS, 4096):
                learner.learn_many(block.x, block.y)
            content = state_to_bytes(learner)
            written = best(partial(state_to_bytes, learner))
            read = best(partial(restored, model, source.schema, content))
            packed = len(zstandard.compress(content, 1)) / 1e6
            cells = f"{len(content) / 1e6:.2f} | {packed:.2f} | {written:.1f} | {read:.1f}"
            print(f"| {stream} | {model} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
