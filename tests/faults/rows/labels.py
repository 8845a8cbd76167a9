"""Labels that come early, twice, out of order, never, or for nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from kafka import KafkaProducer

from tests.faults.rig import CODEC, STREAM, Case, FaultyBroker
from tests.faults.table import Run, row

EVENTS = 400
BLOCK = next(STREAM.blocks(EVENTS))
CLASSES = STREAM.schema.classes


def event(i: int, name: str | None = None) -> bytes:
    return CODEC.encode_event(name or f"e{i}", BLOCK.x[i])


def label(i: int, name: str | None = None, other: bool = False) -> bytes:
    label = CLASSES[BLOCK.y[i] ^ other]
    return json.dumps({"id": name or f"e{i}", "y": label}).encode()


def early() -> Iterator[bytes]:
    for i in range(EVENTS):
        yield label(i)
    for i in range(EVENTS):
        yield event(i)


def twice(other: bool) -> Iterator[bytes]:
    for i in range(EVENTS):
        yield event(i)
        yield label(i)
        yield label(i, other=other)


def out_of_order() -> Iterator[bytes]:
    for i in range(EVENTS):
        yield event(i)
    for i in reversed(range(EVENTS)):
        yield label(i)


def never() -> Iterator[bytes]:
    for i in range(EVENTS):
        yield event(i)
        if i % 2:
            yield label(i)


def orphans() -> Iterator[bytes]:
    for i in range(EVENTS):
        yield event(i)
        yield label(i)
        yield label(i, name=f"nobody{i}")


def storm() -> Iterator[bytes]:
    """Unlabelled events for long, then all labels at once, each three times."""
    for i in range(EVENTS):
        yield event(i)
    for _ in range(3):
        for i in range(EVENTS):
            yield label(i)


def used_twice() -> Iterator[bytes]:
    """The second event of an id replaces the first, which waits no more."""
    for i in range(0, EVENTS, 2):
        yield event(i, f"e{i}")
        yield event(i + 1, f"e{i}")
        yield label(i + 1, f"e{i}")


def accounted(metrics: Counter[str], **expected: int) -> str:
    """Check what became of the labels: all of it as expected, and O4, that it adds up."""
    kinds = ("applied", "expired", "duplicate", "conflicting", "orphan")
    seen = {kind: int(metrics[f"stream_moe_labels_{kind}_total"]) for kind in kinds}
    seen["waiting"] = int(metrics["stream_moe_early_labels"])
    assert seen == dict.fromkeys(seen, 0) | expected, f"labels: {seen}, expected {expected}"
    received = int(metrics["stream_moe_labels_consumed_total"])
    assert received == sum(seen.values())
    return f"{received:,} labels: " + ", ".join(f"{n:,} {kind}" for kind, n in seen.items() if n)


# What becomes of the labels, and of the events: how many wait, how many gave up.
CASES = {
    "early": (early(), {"applied": EVENTS}, (0, 0), "kept until the event comes"),
    "duplicate, the same": (
        twice(False), {"applied": EVENTS, "duplicate": EVENTS}, (0, 0), "learnt once, counted"
    ),
    "duplicate, conflicting": (
        twice(True), {"applied": EVENTS, "conflicting": EVENTS}, (0, 0), "the first one counts"
    ),
    "out of order": (out_of_order(), {"applied": EVENTS}, (0, 0), "learnt with their own features"),
    "never": (never(), {"applied": EVENTS // 2}, (EVENTS // 2, 0), "the events wait, within bounds"),
    "orphan": (orphans(), {"applied": EVENTS, "waiting": EVENTS}, (0, 0), "kept for a day, within bounds"),
    "a storm after silence": (
        storm(), {"applied": EVENTS, "duplicate": 2 * EVENTS}, (0, 0), "learnt once each, counted"
    ),
    "a feature id used twice": (
        used_twice(), {"applied": EVENTS // 2}, (0, EVENTS // 2), "the newer event waits"
    ),
}  # fmt: skip


def _labels(records: list[bytes], labels: dict[str, int], waiting: tuple[int, int]) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker) as case:
            case.produce(records)
            case.killed("committed:3")
            metrics = case.finished()
            text = accounted(metrics, **labels)
            left = int(metrics["stream_moe_pending_events"]), int(metrics["stream_moe_events_expired_total"])
            assert left == waiting, f"events waiting, given up: {left}, expected {waiting}"
            return f"{text}; {left[0]} events wait, {left[1]} gave up; killed once, digest equal"

    return run


EARLY = 50


@row(
    "labels",
    "never, and days go by",
    "the events give up after a day; their labels then count as expired",
)
def days(broker: FaultyBroker) -> str:
    day, half = 86_400_000, EVENTS // 2
    with Case(broker) as case:
        case.produce([event(0), label(0)])
        producer = KafkaProducer(**case.settings.client())

        def send(value: bytes, at: int) -> None:
            producer.send(case.settings.topic, value, b"k", partition=0, timestamp_ms=at)

        for i in range(1, half):
            send(event(i), 1000 * i)
        send(event(half), 2 * day)  # those before give up
        for i in range(1, half):
            send(label(i), 2 * day)
        for i in range(EARLY):
            send(label(i, name=f"nobody{i}"), 2 * day)
        send(event(half + 1), 4 * day)
        producer.flush()
        producer.close()
        case.killed("committed:2")
        metrics = case.finished()
        text = accounted(metrics, applied=1, expired=half - 1, orphan=EARLY)
        gave_up = int(metrics["stream_moe_events_expired_total"])
        assert gave_up == half, f"{gave_up} events gave up, expected {half}"
        return f"{text}; {gave_up} events gave up; killed once, digest equal"


for name, (records, labels, waiting, expected) in CASES.items():
    row("labels", name, expected)(_labels(list(records), labels, waiting))
