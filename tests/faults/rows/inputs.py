"""Records that cannot be read, or that nobody should have sent."""

from __future__ import annotations

import json
import random
import threading
from functools import cache
from pathlib import Path

from kafka import KafkaProducer

from tests.faults.rig import SMALL, Case, FaultyBroker, events
from tests.faults.table import Run, not_produced, row
from tests.fuzz.inputs import FAULTS, GOOD, SCHEMA

SHOWN = [fault for fault in FAULTS if fault[0] not in ("good", "a label alone", "100 MB")]
AROUND = 20  # good records before and behind each


_once = threading.Lock()


def _reasons(broker: FaultyBroker) -> tuple[dict[int, str], set[int]]:
    with _once:
        return _reasons_of(broker)


@cache
def _reasons_of(broker: FaultyBroker) -> tuple[dict[int, str], set[int]]:
    """All faults in one log among good records; the reason of each dead letter by offset, and which were answered."""
    with Case(broker, schema=SCHEMA) as case:
        chance = random.Random(1)
        good = [GOOD.replace(b"0.5", b"%.3f" % chance.random()) for _ in range(AROUND)]
        log: list[bytes | None] = []
        for _, value, _ in SHOWN:
            log += [*good, value]
        case.produce([*log, *good])
        case.killed("committed:3")
        case.finished()
        letters = [dict(record.headers) for record in case.records(case.settings.dead_letters, 0)]
        named = {int(one["__streams.errors.offset"]): one["__streams.errors.exception"].decode() for one in letters}
        answers = case.records(case.settings.predictions, 0)
        return named, {json.loads(record.value)["offset"] for record in answers}


def _input(number: int, reason: str | None) -> Run:
    def run(broker: FaultyBroker) -> str:
        reasons, answered = _reasons(broker)
        at = number * (AROUND + 1) + AROUND
        assert reasons.get(at) == reason, f"record {at}: {reasons.get(at)}, expected {reason}"
        assert (at in answered) == (reason is None)
        records = len(SHOWN) * (AROUND + 1) + AROUND
        assert len(answered) + len(reasons) == records
        outcome = "an event, answered" if reason is None else f"dead letter {reason!r}, bytes untouched"
        return f"{outcome}; one of {records:,} records, killed once, digest equal"

    return run


for number, (name, _, reason) in enumerate(SHOWN):
    expected = "an event" if reason is None else f"dead letter: {reason}"
    row("input", name, expected)(_input(number, reason))


def _bomb(case: Case, size: int, compression: str) -> None:
    with_room = {"max_request_size": size + 1_000_000, "compression_type": compression, "linger_ms": 0}
    producer = KafkaProducer(**case.settings.client(), **with_room)
    producer.send(case.settings.topic, bytes(size), b"bomb", partition=0).get(30)
    producer.close()


def _bombed(size: int, compression: str, reason: str, megabytes: int) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker) as case:
            case.produce(events(0, 500))
            member = case.start(*SMALL)
            case.settle(member)
            before = _peak(member.process.pid)
            _bomb(case, size, compression)
            case.produce(events(500, 500), start=500)
            case.settle(member)
            grown = (_peak(member.process.pid) - before) >> 20
            assert grown < megabytes, f"{grown} MiB more, bound {megabytes}"
            (letter,) = case.records(case.settings.dead_letters, 0)
            found = dict(letter.headers)["__streams.errors.exception"].decode()
            assert found == reason
            offsets = [json.loads(record.value)["offset"] for record in case.records(case.settings.predictions, 0)]
            assert offsets == [*range(500), *range(501, 1001)]
            return f"dead letter {found!r}; memory grew by {grown} MiB; the 1,000 around it answered once"

    return run


def _peak(pid: int) -> int:
    """Most memory that a process has held, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) << 10


row("input", "50 MB payload", "dead letter, cut to what a broker takes; memory bounded")(
    _bombed(50_000_000, "lz4", "too-large", 400)
)
row("input", "compression bomb (300 MB in 30 KB)", "not unpacked; dead letter; memory bounded")(
    _bombed(300_000_000, "zstd", "corrupt", 300)
)


@row("input", "the dead-letter topic itself missing", "it is made anew; nothing is lost")
def no_dead_letters(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 500))
        member = case.start(*SMALL)
        case.settle(member)
        case.admin.delete_topics([case.settings.dead_letters])
        case.produce([b"{", *events(500, 500)], start=500)
        metrics = case.finished(member)
        doubts = int(metrics["stream_moe_transactions_total{in_doubt}"])
        return f"{doubts} commit in doubt, the topic made anew; 1,001 answered once, digest equal"


not_produced(
    "input",
    "corrupt batch (bad checksum)",
    "a broker refuses it; on disk or wire it is tests/kafka/test_connector.py, with a checksum that fails",
)
