"""One engine, several partitions: what comes, goes, comes back, and is taken away, at any step of the loop."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Literal

import pytest

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.engine import loop
from stream_moe.engine.blocks import BlockReport
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.errors import FencedError, InDoubtError, LogError, StuckError, UnavailableError
from stream_moe.models.catalogue import build_model
from stream_moe.report import GroupReport
from stream_moe.streams import open_stream
from stream_moe.types import Outputs

MODEL, PARTITIONS, EACH = "hoeffding-tree", 3, 600
STREAM = open_stream("electricity")
BLOCK = next(STREAM.blocks(PARTITIONS * EACH))
VALUES = JsonCodec(STREAM.schema).encode_events(BLOCK)


def digest_of(partition: int) -> str:
    """The state of an uninterrupted run."""
    learner = build_model(MODEL, STREAM.schema)
    learner.learn_many(BLOCK.x[partition::PARTITIONS], BLOCK.y[partition::PARTITIONS])
    return learner.digest


DIGESTS = {partition: digest_of(partition) for partition in range(PARTITIONS)}


def filled_log() -> MemoryLog:
    log = MemoryLog()
    for partition in range(PARTITIONS):
        for i, value in enumerate(VALUES[partition::PARTITIONS]):
            headers = (schema_header(STREAM.schema),) if i == 0 else ()
            log.append("events", Record(value, None, i, headers), partition)
        log.append("events", EOF, partition)
    return log


def member(log: MemoryLog, state: Path, partitions: set[int] | None = None, **options: Any) -> Engine:
    return Engine(
        MemorySource(log, "events", "g", partitions),
        MemorySink(log, "events", "g"),
        lambda partition: FileCheckpointStore(state / str(partition)),
        lambda schema: build_model(MODEL, schema),
        EngineSettings(MODEL, block_rows=100, checkpoint_events=150),
        **options,
    )


class Steps(dict[int, Callable[[], None]]):
    """What is done once, after the block with its number."""

    blocks = 0

    def __call__(self, _: object) -> None:
        self.blocks += 1
        if do := self.pop(self.blocks, None):
            do()


def change(engine: Engine, kind: Literal["assigned", "revoked", "lost"], *partitions: int) -> None:
    assert isinstance(engine.source, MemorySource)
    engine.source.change(kind, partitions)


def assert_as_uninterrupted(log: MemoryLog, engine: Engine) -> None:
    assert engine.digests() == DIGESTS
    for partition in range(PARTITIONS):
        offsets = [json.loads(record.value or b"")["offset"] for record in log.records("predictions", partition)]
        assert offsets == list(range(EACH))
        assert log.committed("events", "g", partition) == EACH


def test_three_partitions_are_three_replays(tmp_path: Path) -> None:
    groups: list[GroupReport] = []
    engine = member(log := filled_log(), tmp_path, on_group=groups.append)
    engine.run()
    assert_as_uninterrupted(log, engine)
    states = list(dict.fromkeys(group.state for group in groups))
    assert (states[0], states[-3:]) == ("starting", ["running", "draining", "stopped"])
    assert (groups[-1].partitions, groups[-1].rebalances) == ((0, 1, 2), 1)


@pytest.mark.parametrize("kind", ["revoked", "lost"])
@pytest.mark.parametrize("step", [1, 2, 3, 4, 7, 11, 16])
def test_a_partition_that_comes_back_goes_on_as_it_was(
    tmp_path: Path, kind: Literal["revoked", "lost"], step: int
) -> None:
    engine = member(log := filled_log(), tmp_path, on_report=(steps := Steps()))

    def away_and_back() -> None:
        change(engine, kind, 1)
        change(engine, "assigned", 1)

    steps[step] = away_and_back
    engine.run()
    assert_as_uninterrupted(log, engine)
    assert engine.tasks[1].report(BlockReport(), "").replayed_events == 0  # nobody else had committed


@pytest.mark.parametrize("kind", ["revoked", "lost"])
@pytest.mark.parametrize("step", [1, 2, 3, 5, 8, 13])
@pytest.mark.parametrize("turns", [2, 4])
def test_somebody_else_works_in_between(
    tmp_path: Path, kind: Literal["revoked", "lost"], step: int, turns: int
) -> None:
    engine = member(log := filled_log(), tmp_path, on_report=(steps := Steps()))

    def take_over() -> None:
        """In the middle of our turn: the rest of its blocks of partition 1 is refused."""
        change(engine, kind, 1)
        other = member(log, tmp_path, {1})
        other.source.open()
        for _ in range(turns):
            other.turn()
        other._leave()
        change(engine, "assigned", 1)

    steps[step] = take_over
    engine.run()
    assert_as_uninterrupted(log, engine)


@pytest.mark.parametrize("step", [1, 2, 6, 12])
def test_a_zombie_that_fences_us_does_not_stop_us(tmp_path: Path, step: int) -> None:
    engine = member(log := filled_log(), tmp_path, on_report=(steps := Steps()))
    zombie = MemorySink(log, "events", "g")
    steps[step] = lambda: zombie.open(0)
    engine.run()
    assert_as_uninterrupted(log, engine)
    assert engine._outcomes["fenced"] == 1
    with pytest.raises(FencedError):
        zombie.commit(0, Outputs(EACH))


def test_a_fight_over_a_partition_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "FENCED_LIMIT", 2)
    engine = member(log := filled_log(), tmp_path)

    class Fought(MemorySink):
        def open(self, partition: int) -> None:
            super().open(partition)
            if partition == 1:
                MemorySink(log, "events", "g").open(partition)

    engine.sink = Fought(log, "events", "g")
    with pytest.raises(LogError, match="partition 1 was taken from this process 2 times in a row"):
        engine.run()


@pytest.mark.parametrize("point", ["fail_before_commit", "fail_after_commit"])
def test_a_doubtful_commit_is_asked_for_and_never_learnt_twice(tmp_path: Path, point: str) -> None:
    engine = member(log := filled_log(), tmp_path, on_report=(steps := Steps()))
    steps[5] = lambda: setattr(engine.sink, point, InDoubtError("no answer"))
    engine.run()
    assert_as_uninterrupted(log, engine)
    assert (engine._outcomes["in_doubt"], engine._outcomes["fenced"]) == (1, 0)


def test_a_doubt_in_which_somebody_else_wrote_is_a_loss(tmp_path: Path) -> None:
    engine = member(log := filled_log(), tmp_path, {0}, on_report=(steps := Steps()))
    sink = engine.sink
    assert isinstance(sink, MemorySink)

    def somebody_else() -> None:
        other = member(log, tmp_path, {0})
        other.settings = EngineSettings(MODEL, block_rows=30)  # ends within a block of ours
        other.source.open()
        for _ in range(8):
            other.turn()
        other._leave()
        sink.fail_before_commit = InDoubtError("no answer")

    steps[3] = somebody_else
    engine.run()
    assert engine._outcomes["fenced"] == 1
    assert engine.digests() == {0: DIGESTS[0]}
    offsets = [json.loads(record.value or b"")["offset"] for record in log.records("predictions", 0)]
    assert offsets == list(range(EACH))


@pytest.mark.parametrize("point", ["fail_before_commit", "fail_after_commit"])
def test_a_log_that_is_away_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str) -> None:
    """In the middle of a commit, and in the opening that asks what became of it."""
    monkeypatch.setattr(loop, "AWAY_SECONDS", 0.01)
    monkeypatch.setattr(loop, "BOUNDS_SECONDS", 0.0)
    engine = member(log := filled_log(), tmp_path, on_report=(steps := Steps()))
    opened, bounds = engine.sink.open, engine.source.bounds
    away = 0

    def open_unless_away(partition: int) -> None:
        nonlocal away
        if away:
            away -= 1
            raise UnavailableError("no broker answers")
        opened(partition)

    def bounds_unless_away(partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        if away:
            raise UnavailableError("no broker answers")
        return bounds(partitions)

    def lose() -> None:
        nonlocal away
        away = 4
        setattr(engine.sink, point, InDoubtError("no answer"))

    monkeypatch.setattr(engine.sink, "open", open_unless_away)
    monkeypatch.setattr(engine.source, "bounds", bounds_unless_away)
    steps[5] = lose
    engine.run()
    assert away == 0
    assert_as_uninterrupted(log, engine)
    assert (engine._outcomes["in_doubt"], engine._outcomes["fenced"]) == (1, 0)


def test_a_commit_that_is_always_in_doubt_stops_the_process(tmp_path: Path) -> None:
    engine = member(filled_log(), tmp_path)

    def doubt(*_: object) -> None:
        raise InDoubtError("no answer")

    engine.sink.commit = doubt  # type: ignore[method-assign, assignment]
    with pytest.raises(LogError, match="failed 3 times"):
        engine.run()


def test_partitions_that_are_added_get_models(tmp_path: Path) -> None:
    engine = member(log := filled_log(), tmp_path, {0, 1}, on_report=(steps := Steps()))

    def grow() -> None:
        log.create("events", 4)
        log.append("events", EOF, 3)
        change(engine, "assigned", 2, 3)

    steps[4] = grow
    engine.run()
    assert engine.digests() == DIGESTS | {3: build_model(MODEL, STREAM.schema).digest}  # 3 is empty


def test_the_schema_of_one_partition_is_that_of_the_empty_ones(tmp_path: Path) -> None:
    log = MemoryLog()
    log.create("events", 2)
    log.extend("events", [Record(VALUES[0], None, 0, (schema_header(STREAM.schema),)), EOF], 1)
    log.append("events", EOF, 0)
    engine = member(log, tmp_path)
    engine.run()
    assert [task.position for _, task in sorted(engine.tasks.items())] == [0, 1]


def test_the_next_owner_starts_from_the_checkpoint_of_a_revoked_partition(tmp_path: Path) -> None:
    engine = member(filled_log(), tmp_path, on_report=(steps := Steps()))
    steps[8] = lambda: change(engine, "revoked", 1)
    engine.run()
    assert set(engine.tasks) == {0, 2}
    position = engine._parked[1][0].position
    assert position > 0
    assert max((tmp_path / "1").glob("*.ckpt")).name == f"{position:020d}.ckpt"


def test_a_stuck_call_leaves_everything_as_it_is(tmp_path: Path) -> None:
    engine = member(filled_log(), tmp_path)
    closed: list[str] = []

    def stuck(*_: object) -> None:
        raise StuckError("no answer for 45 s")

    engine.sink.commit = stuck  # type: ignore[method-assign, assignment]
    engine.sink.close = lambda partition: closed.append("sink")  # type: ignore[method-assign]
    with pytest.raises(StuckError):
        engine.run()
    assert closed == []  # a close would wait for the call that never comes back


def test_a_stuck_process_does_not_stay() -> None:
    code = (
        "import threading, time, stream_moe.cli as cli\n"
        "from stream_moe.errors import StuckError\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"  # an orderly exit would wait for it
        "def app(**_): raise StuckError('committing: no answer')\n"
        "cli.app = app\n"
        "cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (75, "stream-moe: committing: no answer\n")


def test_a_loop_that_stands_still_ends_the_process() -> None:
    code = (
        "import time\n"
        "from stream_moe.cli.serving import ended_if_stuck\n"
        "from stream_moe.telemetry.health import Health\n"
        "from stream_moe.telemetry.board import Board\n"
        "health = Health(Board())\n"
        "with ended_if_stuck(health, 2):\n"
        "    for _ in range(30):\n"
        "        time.sleep(0.1); health.beat()\n"
        "    print('turned', flush=True)\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (75, "turned\n")
    assert done.stderr == "stream-moe: the loop stands still for 2 s; start again\n"


def test_ends_of_the_log_that_are_not_told_are_not_asked_for_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each time may hold up the loop."""
    monkeypatch.setattr(loop, "BOUNDS_SECONDS", 0.0)
    engine, asked = member(filled_log(), tmp_path), 0
    bounds = engine.source.bounds

    def silent(partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        nonlocal asked
        if not set(partitions) <= engine.tasks.keys():  # one is opened
            return bounds(partitions)
        asked += 1
        raise UnavailableError("no answer")

    monkeypatch.setattr(engine.source, "bounds", silent)
    engine.run()
    assert asked <= len(engine.tasks) + 1
    assert "the lag of partitions" in caplog.text
