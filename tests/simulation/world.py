"""The engine's ports with everything that may go wrong on the way: requests, answers, disks, members."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from connectors.files import check_parts
from connectors.memory import MemoryLog, MemoryReader, MemorySink, MemorySource
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.engine.checkpoint import AHEAD
from stream_moe.errors import CheckpointError, FencedError, InDoubtError, LogError, UnavailableError
from stream_moe.types import RecordBatch
from tests.simulation.group import Group
from tests.simulation.inputs import GROUP, TOPIC
from tests.simulation.scheduler import Scheduler

STEPS = (
    "joining", "before the poll", "after the poll", "in a replay", "before the fence", "after the fence",
    "asking for the committed offset", "asking for the ends of the log", "after the step", "outputs sent",
    "offsets sent", "in doubt", "committed, answer unread", "committed, no checkpoint yet", "listing checkpoints",
    "reading a checkpoint", "before the temporary write", "in the temporary write", "before the rename",
    "after the rename", "before a generation is deleted", "after a generation was deleted",
    "waiting for a checkpoint", "leaving", "reading the labels", "reading the journal",
)  # fmt: skip


SLEEP_SECONDS = 30.0  # a stopped process may wake after so long, in the middle of whatever it did


class AwayError(UnavailableError):
    """The log does not answer now."""


@dataclass
class Faults:
    """How often each thing goes wrong, as probabilities of a call."""

    unreachable: float = 0.0  # a call to the log fails
    lost: float = 0.0  # the request to commit never arrives
    unanswered: float = 0.0  # it is done, and nobody hears of it
    late: float = 0.0  # it arrives when nobody waits any more
    full: float = 0.0  # the disk refuses a checkpoint
    torn: bool = False  # a write shows under its name before it is whole, as in some object stores
    checks_members: bool = True  # the broker refuses positions of who is not the partition's member


class World:
    """What outlives every process: the log, the group, the disk, and requests that are on their way."""

    def __init__(self, chance: random.Random, scheduler: Scheduler, faults: Faults, patience: int) -> None:
        self.chance, self.scheduler, self.faults = chance, scheduler, faults
        self.log = MemoryLog()
        self.group = Group(chance, patience)
        self.disk: dict[int, dict[str, bytes]] = {}
        self.late: list[Callable[[], None]] = []
        self.seen: Counter[str] = Counter()
        self.violations: list[str] = []
        self.archive: dict[int, dict[int, bytes]] = {}  # every checkpoint that was written whole
        self.segments: dict[int, dict[str, bytes]] = {}  # and every file with models of keys
        self.batch_rows = 8
        self.variant = 0
        self.apart = False  # labels have a topic of their own
        self.keyed = False  # each record key has a model of its own
        self.parked = 60.0  # seconds that the state of a partition is kept which went; garbage for twice that
        self.wronged: set[int] = set()  # partitions whose disk or log lost what a restart may need

    def happens(self, probability: float) -> bool:
        return probability > 0 and self.chance.random() < probability

    def call(self, place: str) -> None:
        """A call to the log, which may be away."""
        self.scheduler.step(place)
        if self.happens(self.faults.unreachable):
            self.seen["calls failed"] += 1
            raise AwayError("no broker answers")

    def deliver_late(self) -> None:
        """Let one request arrive whose sender has given up."""
        if self.late:
            request = self.late.pop(self.chance.randrange(len(self.late)))
            try:
                request()
            except LogError:
                self.seen["late commits refused"] += 1
            else:
                self.seen["late commits done"] += 1

    def commit(self, partition: int, request: Callable[[], None]) -> None:
        """The broker's side of a commit."""
        try:
            request()
        except FencedError:
            raise
        except LogError as error:
            self.violations.append(f"O3: partition {partition}: {error}")
            raise
        self.seen["commits"] += 1


class SimulatedSource(MemorySource):
    """A member of the simulated group."""

    def __init__(self, world: World) -> None:
        super().__init__(world.log, TOPIC, GROUP)
        self._world = world

    def open(self) -> None:
        self._world.call("joining")
        self.settled = True

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        world = self._world
        world.call("before the poll")
        world.group.heartbeat(self, world.scheduler.steps)
        batches = super().poll(world.chance.randint(1, world.batch_rows), 0.0)
        world.group.polled(self)
        if not batches and not self._unreported:
            world.scheduler.now += timeout
        for batch in batches:
            committed = self._log.committed(TOPIC, GROUP, batch.partition) or 0
            world.scheduler.step("in a replay" if batch.next_offset < committed else "after the poll")
        return batches

    def committed(self, partition: int) -> int | None:
        self._world.call("asking for the committed offset")
        return super().committed(partition)

    def bounds(self, partitions: object) -> dict[int, tuple[int, int]]:
        self._world.call("asking for the ends of the log")
        return super().bounds(partitions)  # type: ignore[arg-type]

    def close(self) -> None:
        self._world.scheduler.step("leaving")
        self._world.group.leave(self)
        super().close()


class SimulatedReader(MemoryReader):
    """Reads the labels or the journal, in batches of any size, also none."""

    def __init__(self, world: World, topic: str) -> None:
        super().__init__(world.log, topic)
        self._world = world

    def poll(self, max_records: int, timeout: float) -> list[RecordBatch]:
        self._world.call(f"reading the {self.topic}")
        rows = self._world.chance.randint(0, self._world.batch_rows)
        return super().poll(rows, 0.0) if rows else []


class SimulatedSink(MemorySink):
    """A writer whose requests and answers may be lost or late."""

    def __init__(self, world: World, source: SimulatedSource, journal: str | None) -> None:
        super().__init__(world.log, TOPIC, GROUP, journal=journal)
        self.doubts = self.refusals = 0
        self._world, self._source = world, source

    def open(self, partition: int) -> None:
        self._world.call("before the fence")
        if self._world.happens(0.3):
            self._world.deliver_late()  # the last moment at which it may
        super().open(partition)
        self._world.scheduler.step("after the fence")

    def _deliver(self, partition: int, request: Callable[[], None]) -> None:
        world, faults = self._world, self._world.faults
        for place in ("after the step", "outputs sent", "offsets sent"):
            world.scheduler.step(place)
        request = partial(world.commit, partition, request)
        if world.happens(faults.lost):
            self._doubt("requests lost")
        if world.happens(faults.late):
            world.late.append(request)
            if world.happens(0.3):
                world.scheduler.trap = "in doubt"  # nobody may be left who knows of it
            self._doubt("requests late")
        try:
            if faults.checks_members and not world.group.owns(self._source, partition):
                raise FencedError(f"partition {partition} is not this member's")
            request()
        except FencedError:
            self.refusals += 1
            world.seen["commits refused"] += 1
            raise
        world.scheduler.step("committed, answer unread")
        if world.happens(faults.unanswered):
            self._doubt("answers lost")
        world.scheduler.step("committed, no checkpoint yet")

    def _doubt(self, why: str) -> None:
        self._world.seen[why] += 1
        self._world.scheduler.step("in doubt")
        self.doubts += 1
        raise InDoubtError(why)


class SimulatedStore:
    """A `CheckpointStore` on a disk that all processes see."""

    def __init__(self, world: World, partition: int) -> None:
        self._world, self._partition = world, partition
        self._files = world.disk.setdefault(partition, {})
        self._archive = world.archive.setdefault(partition, {})
        self._segments = world.segments.setdefault(partition, {})

    def names(self) -> list[str]:
        self._world.scheduler.step("listing checkpoints")
        return sorted(self._files)

    def read(self, name: str) -> bytes:
        self._world.scheduler.step("reading a checkpoint")
        if name not in self._files:
            raise CheckpointError(f"{name}: not there")
        return self._files[name]

    def read_parts(self, name: str, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        found = [self.read(name)[begin:end] for begin, end in parts]
        check_parts(name, parts, found)
        return found

    def write(self, name: str, content: bytes) -> None:
        world = self._world
        world.scheduler.step("before the temporary write")
        if world.happens(world.faults.full):
            world.seen["disk full"] += 1
            raise CheckpointError(f"writing {name}: the disk is full")
        if world.faults.torn:
            self._files[name] = content[: world.chance.randrange(len(content))]
        world.scheduler.step("in the temporary write")
        world.scheduler.step("before the rename")
        self._files[name] = content
        if name.endswith(".models"):
            self._segments[name] = content
            world.seen["segments"] += 1
        elif not name.startswith(AHEAD):
            missing = set(Checkpoint.from_bytes(content).files) - self._files.keys()
            if missing and world.parked > SLEEP_SECONDS and self._partition not in world.wronged:
                world.violations.append(f"O2: {name} of partition {self._partition} names {min(missing)}, not there")
            self._archive[int(name[:20])] = content
            world.seen["checkpoints"] += 1
        world.scheduler.step("after the rename")

    def delete(self, name: str) -> None:
        self._world.scheduler.step("before a generation is deleted")
        self._files.pop(name, None)
        self._world.scheduler.step("after a generation was deleted")
