from __future__ import annotations

import threading

import pytest

from connectors.memory import (
    ABORT,
    CONTROL,
    CORRUPT,
    EOF,
    PAUSE,
    MemoryLog,
    MemorySink,
    MemorySource,
    Record,
    SimulatedCrashError,
)
from stream_moe.errors import EndOfLogError, FencedError, LogError
from stream_moe.ports import Change, Sink, Source
from stream_moe.types import DeadLetter, Outputs, RecordBatch

LETTER = DeadLetter(1, 5, b"k", b"\xff{", "decode", "bad-json", "The value is not JSON.")


def opened(log: MemoryLog, start: int = 0) -> MemorySource:
    source = MemorySource(log, "events", "g")
    source.open()
    assert source.poll(1, 0.0) == []
    assert source.changes() == [Change("assigned", frozenset({0}))]
    source.seek(0, start)
    return source


def poll(source: MemorySource, rows: int, timeout: float = 0.0) -> RecordBatch | None:
    """The one batch of the one partition."""
    batches = source.poll(rows, timeout)
    assert len(batches) <= 1
    return batches[0] if batches else None


def sink_of(log: MemoryLog) -> MemorySink:
    sink = MemorySink(log, "events", "g")
    sink.open(0)
    return sink


def test_fits_the_ports() -> None:
    log = MemoryLog()
    source: Source = MemorySource(log, "events", "g")
    sink: Sink = MemorySink(log, "events", "g")
    assert not source.settled
    sink.close(0)


def test_records_come_back_in_order_with_their_headers() -> None:
    log = MemoryLog()
    log.extend("events", [Record(b"a", b"k", 7, (("h", b"1"),)), (b"k2", b"b"), b"c", EOF])
    source = opened(log)
    batch = poll(source, 2, 0.0)
    assert batch is not None
    assert (batch.offsets.tolist(), batch.timestamps.tolist()) == ([0, 1], [7, 1])
    assert (batch.keys, batch.values, batch.next_offset) == ([b"k", b"k2"], [b"a", b"b"], 2)
    assert batch.headers == (("h", b"1"),)
    assert source.bounds([0]) == {0: (0, 3)}
    rest = poll(source, 100, 0.0)
    assert rest is not None
    assert rest.values == [b"c"]
    for _ in range(2):
        with pytest.raises(EndOfLogError):
            poll(source, 1, 0.0)


def test_an_abort_happens_once_even_for_another_source() -> None:
    log = MemoryLog()
    log.extend("events", [b"a", ABORT, b"b"])
    source = opened(log)
    poll(source, 10, 0.0)
    with pytest.raises(SimulatedCrashError):
        poll(source, 10, 0.0)
    again = poll(opened(log), 10, 0.0)
    assert again is not None
    assert again.values == [b"a", b"b"]


def test_two_pauses_are_two_empty_polls() -> None:
    log = MemoryLog()
    log.extend("events", [PAUSE, PAUSE, b"a"])
    source = opened(log)
    assert poll(source, 1, 60.0) is None
    assert poll(source, 1, 60.0) is None
    assert poll(source, 1, 0.0) is not None


def test_corrupt_and_control_take_offsets() -> None:
    log = MemoryLog()
    log.extend("events", [b"a", CORRUPT, b"b", CONTROL])
    batch = poll(opened(log), 10, 0.0)
    assert batch is not None
    assert (batch.offsets.tolist(), batch.corrupt, batch.next_offset) == ([0, 2], [1], 4)


def test_a_lost_position_is_refused() -> None:
    log = MemoryLog()
    log.extend("events", [b"a", b"b", b"c"])
    log.trim("events", 2)
    assert opened(log).bounds([0]) == {0: (2, 3)}
    with pytest.raises(LogError, match="offset 0 of 'events'"):
        poll(opened(log), 1, 0.0)
    with pytest.raises(LogError, match="offset 9 of 'events'"):
        poll(opened(log, 9), 1, 0.0)
    with pytest.raises(LogError, match="partition 1 is not assigned"):
        opened(log).seek(1, 0)


def test_a_missing_topic_is_refused() -> None:
    with pytest.raises(LogError, match="'nowhere' does not exist"):
        MemorySource(MemoryLog(), "nowhere", "g").open()


def test_poll_wakes_up_for_a_record_from_another_thread() -> None:
    log = MemoryLog()
    log.append("events", b"a")
    source = opened(log, 1)
    writer = threading.Thread(target=log.append, args=("events", b"b"))
    writer.start()
    batch = poll(source, 10, 60.0)
    writer.join()
    assert batch is not None
    assert batch.values == [b"b"]


def test_commit_publishes_everything_with_the_offset() -> None:
    log = MemoryLog()
    log.extend("events", [b"a", b"b"])
    sink_of(log).commit(0, Outputs(2, [(b"k", b"p")], [LETTER]))
    assert MemorySource(log, "events", "g").committed(0) == 2
    assert [(r.key, r.value) for r in log.records("predictions")] == [(b"k", b"p")]
    (dead,) = log.records("dead-letters")
    assert (dead.key, dead.value, dead.timestamp) == (b"k", b"\xff{", 5)
    assert dict(dead.headers) == {
        "__streams.errors.exception": b"bad-json",
        "__streams.errors.message": b"The value is not JSON.",
        "__streams.errors.topic": b"events",
        "__streams.errors.partition": b"0",
        "__streams.errors.offset": b"1",
        "__streams.errors.stage": b"decode",
    }


@pytest.mark.parametrize(("where", "visible"), [("fail_before_commit", 0), ("fail_after_commit", 1)])
def test_a_failing_commit_is_all_or_nothing(where: str, visible: int) -> None:
    log = MemoryLog()
    sink = sink_of(log)
    setattr(sink, where, SimulatedCrashError("here"))
    with pytest.raises(SimulatedCrashError):
        sink.commit(0, Outputs(4, [(None, b"p")], [LETTER]))
    assert log.committed("events", "g") == (4 if visible else None)
    assert len(log.records("predictions")) == len(log.records("dead-letters")) == visible
    sink.commit(0, Outputs(5, [(None, b"p")]))  # fails once only
    assert log.committed("events", "g") == 5


def test_a_newer_sink_fences_the_older() -> None:
    log = MemoryLog()
    old = sink_of(log)
    new = sink_of(log)
    with pytest.raises(FencedError, match="fenced"):
        old.commit(0, Outputs(1, [(None, b"p")]))
    assert log.records("predictions") == []
    new.commit(0, Outputs(1))


def test_a_committed_offset_never_goes_back() -> None:
    sink = sink_of(MemoryLog())
    sink.commit(0, Outputs(5))
    with pytest.raises(LogError, match="go back"):
        sink.commit(0, Outputs(4))
