"""Where the time of a block goes, microseconds per event and phase, beside what the hardware would need.

    python -m benchmarks.block_phases [--repeats 3] [--only learner,daemon]

Lower bounds are derived from this machine's own rates, measured first on one core: float32 multiply-adds of a
matrix product (512 x 512), bytes of float64 read in a dot product with itself that stays in the second-level
cache, and for the daemon the C library alone that does the work (msgspec, lz4, crc32c) in a bare loop.
"""

from __future__ import annotations

import argparse
import timeit
import uuid
from collections.abc import Callable
from statistics import median
from typing import Any

import crc32c
import lz4.frame
import msgspec
import numpy as np

from benchmarks import kafka_loop
from benchmarks.bench import replay
from connectors.kafka import KafkaSettings
from stream_moe.engine.codec import JsonCodec
from stream_moe.streams import open_stream
from stream_moe.types import Schema
from tests.kafka.broker import Broker

EXPERTS, TOP_K, BATCH, HIDDEN = 12, 3, 256, (256, 128)
EVENTS = 300_000
Bounds = dict[str, float]


def fastest(work: Callable[[], Any], repeats: int = 20) -> float:
    return min(timeit.repeat(work, number=1, repeat=repeats))


def rates() -> tuple[float, float]:
    """Float32 operations/s of a matrix product, and bytes/s of a dot product in cache."""
    a, row = np.ones((512, 512), np.float32), np.ones(32_000)
    return 2 * 512**3 / fastest(lambda: a @ a), 200 * row.nbytes / fastest(lambda: [row @ row for _ in range(200)])


def learner_bounds(schema: Schema, flops: float, bandwidth: float) -> Bounds:
    """Microseconds per event of driftmoe-data.

    route: multiply-adds of the forward pass. update: twice those, without the gradient of the inputs, and Adam's
    seven passes over the float32 parameters once per 256 events. experts: what naive Bayes reads at one leaf of
    each tree (mean and inverse variance per class and numeric feature, a count per class and nominal feature), and
    count, mean and sum of squares (or the one count) of one class, read and written in 3 trees.
    """
    d, c = schema.n_features, schema.n_classes
    nominal = sum(feature.is_nominal for feature in schema.features)
    first, rest = d * HIDDEN[0], HIDDEN[0] * HIDDEN[1] + HIDDEN[1] * EXPERTS
    adam = 28 * (first + rest) / BATCH
    read = EXPERTS * c * 8 * (2 * (d - nominal) + nominal)
    written = TOP_K * 2 * 8 * (3 * (d - nominal) + nominal)
    return {
        "route": 1e6 * 2 * (first + rest) / flops,
        "experts": 1e6 * (read + written) / bandwidth,
        "update": 1e6 * (2 * (first + 2 * rest) / flops + adam / bandwidth),
    }


def learner(repeats: int) -> None:
    flops, bandwidth = rates()
    print(f"\none core: {flops / 1e9:.0f} Gflop/s float32, {bandwidth / 1e9:.0f} GB/s from cache\n")
    for stream in ("led_a", "rbf_f", "sea_a"):
        bounds = learner_bounds(open_stream(stream).schema, flops, bandwidth)
        runs = [replay(stream, "driftmoe-data", EVENTS, 1) for _ in range(repeats)]
        show(f"driftmoe-data, {stream}, one thread", runs, bounds)


def show(title: str, runs: list[Any], bounds: Bounds) -> None:
    print(f"| {title} | us per event | lower bound |\n| --- | --- | --- |")
    for phase in runs[0]["phases"]:
        bound = f"{bounds[phase]:.2f}" if phase in bounds else ""
        print(f"| {phase} | {median(1e6 * run['phases'][phase] / run['events'] for run in runs):.2f} | {bound} |")
    rest = median(1e6 * (run["seconds"] - sum(run["phases"].values())) / run["events"] for run in runs)
    print(f"| rest | {rest:.2f} | {bounds.get('rest', 0):.2f} |", flush=True)


def daemon(repeats: int) -> None:
    broker = Broker()
    broker.start()
    try:
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        settings = KafkaSettings(broker.bootstrap, topic, predictions=f"{topic}-out", dead_letters=f"{topic}-dead")
        kafka_loop.fill(settings)
        runs = [kafka_loop.run_daemon(settings, f"g{i}") for i in range(repeats)]
    finally:
        broker.stop()
    for run in runs:
        run["events"] = run["events_per_second"] * run["seconds"]  # without the first block, as the phases are
    show("daemon, rbf_f, two threads", runs, daemon_bounds())


def daemon_bounds() -> Bounds:
    """Microseconds per record: parse, write, compress with checksum, and (in the rest) read back a record."""
    stream = open_stream("rbf_f")
    block = next(stream.blocks(4096))
    codec = JsonCodec(stream.schema)
    values = codec.encode_events(block)
    answers = codec.encode_predictions(
        [str(i) for i in range(len(block))], np.arange(len(block)), np.full((len(block), 2), 0.512345),
        np.random.default_rng(1).dirichlet(np.ones(EXPERTS), len(block)), "driftmoe-data/0a1b2c3d",
    )  # fmt: skip
    plain = [msgspec.json.decode(answer) for answer in answers]
    event = msgspec.defstruct("Event", [("x", tuple.__class_getitem__((float,) * 10)), ("id", str), ("y", str)])
    parse, write = msgspec.json.Decoder(event).decode, msgspec.json.Encoder().encode
    sent, packed = b"".join(answers), lz4.frame.compress(b"".join(values))
    seconds = {
        "decode": fastest(lambda: [parse(value) for value in values]),
        "encode": fastest(lambda: [write(answer) for answer in plain]),
        "send": fastest(lambda: crc32c.crc32c(lz4.frame.compress(sent))),
        "rest": fastest(lambda: (crc32c.crc32c(packed), lz4.frame.decompress(packed))),
    }
    return {phase: 1e6 * took / len(block) for phase, took in seconds.items()}


PARTS = {part.__name__: part for part in (learner, daemon)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    options = parser.parse_args()
    for name in options.only.split(","):
        PARTS[name](options.repeats)


if __name__ == "__main__":
    main()
