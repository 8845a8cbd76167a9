"""One schedule: members that work while things go wrong, a time of healing, and what must then hold."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from unittest import mock

from connectors.memory import Item
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.engine import checkpoint, journal, loop, task
from stream_moe.engine.checkpoint import AHEAD
from stream_moe.engine.journal import JournaledSource
from stream_moe.engine.loop import Engine
from stream_moe.entries import JournalEntry
from stream_moe.errors import CheckpointError, ConfigError, LogError
from stream_moe.models.keyed import barrier, residents, segments
from tests.simulation.inputs import (
    GROUP,
    JOURNAL,
    LABELS,
    SCHEMA,
    TOPIC,
    expected,
    expected_apart,
    factory,
    items,
    items_apart,
    settings,
    state_digest,
    unbalanced,
)
from tests.simulation.scheduler import Actor, Process, Scheduler
from tests.simulation.stand_ins import Hurry, Names, Sizes
from tests.simulation.world import (
    STEPS,
    AwayError,
    Faults,
    SimulatedReader,
    SimulatedSink,
    SimulatedSource,
    SimulatedStore,
    World,
)

VARIANTS, PARTITIONS = 6, 3  # of the topics' content; the most that a topic has
PATIENCE = 150  # steps without a poll after which a member is put out
HEALING = 10_000  # steps after which a group that nothing disturbs must be done


@dataclass
class Outcome:
    """What a schedule was, and what did not hold."""

    seen: Counter[str] = field(default_factory=Counter)
    deaths: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)


class Member:
    """A place for a process, which is started again whenever it has ended."""

    def __init__(self, world: World) -> None:
        self.starts_at = 0  # step
        self.engine: Engine | None = None
        self.sink: SimulatedSink
        self.process = Process()
        self._actor: Actor | None = None
        self._world = world

    @property
    def runs(self) -> bool:
        return self._actor is not None and not self._actor.finished

    @property
    def error(self) -> BaseException | None:
        return self._actor.error if self._actor is not None else None

    def start(self) -> None:
        world, chance = self._world, self._world.chance
        source = SimulatedSource(world)
        self.sink = SimulatedSink(world, source, JOURNAL if world.apart else None)
        readers = SimulatedReader(world, LABELS), SimulatedReader(world, JOURNAL)
        self.engine = Engine(
            JournaledSource(source, *readers) if world.apart else source,
            self.sink,
            lambda partition: SimulatedStore(world, partition),
            factory(world.keyed),
            settings(
                world.variant,
                world.keyed,
                checkpoint_events=chance.choice([1, 10, 30, 1000]),
                checkpoint_seconds=chance.choice([0.5, 1e9, 1e9]),
            ),
            schema=chance.choice([SCHEMA, None]),
        )
        self.process = Process()
        self._actor = world.scheduler.spawn(self.process, self.engine.run)


class Schedule:
    """Everything that one seed decides.

    Parameters
    ----------
    seed
        Of this schedule.
    """

    def __init__(self, seed: int) -> None:
        chance = self._chance = random.Random(seed)
        self._scheduler = Scheduler(random.Random(chance.random()))
        faults = Faults(
            unreachable=chance.choice([0, 0.002]),
            lost=chance.choice([0, 0.08]),
            unanswered=chance.choice([0, 0.08]),
            late=chance.choice([0, 0.08]),
            full=chance.choice([0, 0.2]),
            torn=chance.random() < 0.3,
            checks_members=chance.random() < 0.5,
        )
        self._world = World(chance, self._scheduler, faults, PATIENCE)
        self._world.batch_rows = chance.choice([1, 4, 12])
        variant = self._world.variant = chance.randrange(VARIANTS)
        self._world.apart = chance.random() < 0.4
        keyed = self._world.keyed = chance.random() < 0.3
        self._world.parked = chance.choice([60.0, 1.0])
        self._items: list[dict[str, list[Item]]] = []
        for partition in range(PARTITIONS):
            apart = items_apart(variant, partition)
            whole = {TOPIC: items(variant, partition)}
            self._items.append(dict(zip((TOPIC, LABELS), apart, strict=True)) if self._world.apart else whole)
        self._expected = [expected(variant, keyed, partition) for partition in range(PARTITIONS)]
        self._members = [Member(self._world) for _ in range(chance.randint(1, 3))]
        self._partitions = 0
        self._written: Counter[tuple[str, int]] = Counter()  # records that were produced
        self._grow(chance.randint(1, 2))
        often = chance.choice([0.5, 1, 2])
        self._chances = {
            self._kill: often * chance.choice([0, 0.005, 0.01]),
            self._pause: often * chance.choice([0, 0.003]),
            self._rebalance: often * chance.choice([0, 0.003]),
            self._damage: often * chance.choice([0, 0.002]),
            self._plant: often * chance.choice([0, 0.002]),
            self._trim: often * chance.choice([0, 0.003]),
            lambda: self._grow(1): 0.0005,
            self._produce: 0.05,
            self._world.deliver_late: 0.004,
        }

    def run(self) -> Outcome:
        world, scheduler = self._world, self._scheduler
        with self._simulated():
            for _ in range(self._chance.randrange(300, 1500)):
                self._turn()
            self._heal()
            if self._until(self._all_committed, "everything is committed"):
                for member in self._members:
                    member.starts_at = 2 * HEALING
                    if member.engine is not None:
                        member.engine.stop()
                self._until(lambda: not any(member.runs for member in self._members), "the members have left")
                self._cold_start()
        self._check()
        seen = world.seen
        seen["schedules with two topics"] += world.apart
        seen["schedules with keys"] += world.keyed
        seen["steps"] += scheduler.steps
        seen["crashes"] += scheduler.deaths.total()
        seen["rebalances"] += world.group.rebalances
        return Outcome(seen, scheduler.deaths, world.violations)

    @contextlib.contextmanager
    def _simulated(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for module in (loop, task, checkpoint, journal, segments):
                stack.enter_context(mock.patch.object(module, "time", self._scheduler))
            stack.enter_context(mock.patch.object(segments, "secrets", Names(self._chance)))
            stack.enter_context(mock.patch.object(barrier, "time", Hurry(self._chance)))
            stack.enter_context(mock.patch.object(residents, "tracemalloc", Sizes()))
            stack.enter_context(mock.patch.object(loop, "PARKED_SECONDS", self._world.parked))
            stack.enter_context(mock.patch.object(segments, "GARBAGE_SECONDS", 2 * self._world.parked))
            stack.enter_context(mock.patch.object(checkpoint, "threading", self._scheduler))
            stack.enter_context(mock.patch.object(journal, "JOURNAL_ROWS", 4))
            try:
                yield
            finally:
                self._scheduler.end()

    # What goes on

    def _turn(self) -> None:
        for happen, probability in self._chances.items():
            if self._chance.random() < probability:
                happen()
        self._world.seen["members put out"] += self._world.group.expire(self._scheduler.steps)
        for member in self._members:
            if not member.runs and member.engine is not None:
                self._ended(member)
            if not member.runs and self._scheduler.steps >= member.starts_at:
                self._world.seen["starts"] += 1
                member.start()
        self._scheduler.turn()

    def _ended(self, member: Member) -> None:
        """A process is no more. Was it right to end?"""
        assert member.engine is not None
        error, world = member.error, self._world
        if not member.process.dead:
            outcomes, sink = member.engine._outcomes, member.sink
            if outcomes["in_doubt"] != sink.doubts or outcomes["fenced"] < sink.refusals:
                world.violations.append(
                    f"O6: counted {dict(outcomes)}, and there were {sink.doubts} doubts, {sink.refusals} refusals"
                )
        member.engine = None
        member.starts_at = max(member.starts_at, self._scheduler.steps + self._chance.randrange(100))
        if error is None or isinstance(error, AwayError):
            return
        if isinstance(error, LogError | CheckpointError | ConfigError):
            world.seen["stopped loudly"] += 1
            gone = [p for p in range(self._partitions) if not self._recoverable(p)]
            for partition in gone:
                self._restore_backup(partition)
            if gone or world.wronged or "times" in str(error):  # a fight for a partition, or one doubt after another
                return
            if world.keyed and "the disk is full" in str(error):  # memory would not be bounded otherwise
                return
        world.violations.append(f"O5: a process ended with {error!r}")

    def _recoverable(self, partition: int) -> bool:
        """Whether a checkpoint, or the log from its beginning, still tells the state."""
        usable = [offset for offset in self._present(partition) if offset <= self._committed(partition)]
        if usable and not self._sound(partition, max(usable)):
            return False  # a damaged model is found when its key comes, and refused
        return any(self._reachable(partition, offset) for offset in [0, *usable])

    def _reachable(self, partition: int, offset: int) -> bool:
        """Whether a state at this position can be brought up to the committed one."""
        log, committed = self._world.log, self._committed(partition)
        if committed == 0 or offset > committed:
            return offset == 0
        if not self._world.apart:
            return offset >= log.bounds(TOPIC, partition)[0]
        held = log.bounds(JOURNAL, partition)[0]
        entries = self._journal(partition)
        at = next((n for n, entry in enumerate(entries, 1) if entry.position == offset), 0)
        pair = entries[at - 1].pair if at else (0, 0)
        begins = tuple(log.bounds(topic, partition)[0] for topic in (TOPIC, LABELS))
        known = offset == committed or max(at - 1, 0) >= held
        return known and pair[0] >= begins[0] and pair[1] >= begins[1]

    def _journal(self, partition: int) -> list[JournalEntry]:
        return [JournalEntry.from_json(record.value or b"") for record in self._world.log.records(JOURNAL, partition)]

    def _committed(self, partition: int) -> int:
        """Give the committed position: of two topics the sum."""
        entry = self._world.log.entry(TOPIC, GROUP, partition)
        return 0 if entry is None else entry.position

    def _present(self, partition: int) -> list[int]:
        """List the offsets of the checkpoints that a start may use: whole, and the files that they name are there."""
        found, files = [], self._world.disk.get(partition, {})
        for name in files:
            if name.endswith(".ckpt") and not name.startswith(AHEAD):
                with contextlib.suppress(CheckpointError):
                    one = Checkpoint.from_bytes(files[name])
                    if files.keys() >= set(one.files):
                        found.append(one.offset)
        return found

    def _sound(self, partition: int, offset: int) -> bool:
        """Whether all models that a checkpoint names are as they were written."""
        files = self._world.disk[partition]
        with contextlib.suppress(CheckpointError):
            return bool(state_digest(files[f"{offset:020d}.ckpt"], files))
        return False

    def _restore_backup(self, partition: int) -> None:
        files = self._world.disk.setdefault(partition, {})
        files.clear()
        world, want = self._world, self._expected[partition]
        backups = world.archive[partition] if world.apart else want.checkpoints
        offset = max(offset for offset in backups if self._reachable(partition, offset))
        files[f"{offset:020d}.ckpt"] = backups[offset]
        models = world.segments[partition] if world.apart else want.segments
        files.update((name, models[name]) for name in Checkpoint.from_bytes(backups[offset]).files)
        self._world.seen["backups restored"] += 1

    def _heal(self) -> None:
        """Nothing goes wrong from now on, and what slept wakes up: zombies too."""
        world = self._world
        world.faults = Faults(checks_members=world.faults.checks_members)
        world.group.patience = HEALING // 10
        self._scheduler.trap = ""
        self._chances = {self._produce: 0.5, world.deliver_late: 0.05}
        for member in self._members:
            member.process.sleeps_until = 0

    def _until(self, done: Callable[[], bool], what: str) -> bool:
        for _ in range(HEALING):
            if done():
                return True
            self._turn()
        self._world.violations.append(f"O5: not within {HEALING} steps: {what}")
        return False

    def _all_committed(self) -> bool:
        ends = ((p, sum(map(len, self._items[p].values()))) for p in range(self._partitions))
        return all(self._committed(partition) == end for partition, end in ends)

    def _cold_start(self) -> None:
        """Start one more process, which has nothing but the disk and the log."""
        member = Member(self._world)
        self._members = [member]

        def recovered() -> bool:
            engine = member.engine
            tasks = engine.tasks if engine is not None else {}
            return len(tasks) == self._partitions and all(
                task.state == "running" and task.position == self._committed(p) for p, task in tasks.items()
            )

        if self._until(recovered, "a new process has recovered") and member.engine is not None:
            if member.engine.state != "running":
                self._world.violations.append(f"O6: recovered, and its state is {member.engine.state}")
            member.starts_at = 3 * HEALING + self._scheduler.steps
            member.engine.stop()
            self._until(lambda: not member.runs, "the new process has left")

    def _check(self) -> None:
        """Compare what is there with what an uninterrupted run leaves."""
        log, wrong = self._world.log, self._world.violations
        for partition in range(self._partitions):
            want = self._expected[partition]
            if self._world.apart:
                entries = self._journal(partition)
                pairs = [(0, 0), *(entry.pair for entry in entries)]
                forward = all(a <= c and b <= d for (a, b), (c, d) in pairwise(pairs))
                ends = tuple(map(len, self._items[partition].values()))
                numbered = [entry.sequence for entry in entries] == list(range(1, len(entries) + 1))
                if not (forward and numbered and pairs[-1] == ends):
                    wrong.append(f"O1: the journal of partition {partition} does not tell its blocks, each once")
                    continue
                want = expected_apart(
                    self._world.variant, self._world.keyed, partition, log.records(JOURNAL, partition)
                )
            for topic, records in (("predictions", want.predictions), ("dead-letters", want.dead_letters)):
                if (found := log.records(topic, partition)) != records:
                    wrong.append(f"O1: {len(found)} {topic} in partition {partition}, expected {len(records)}")
            if wrong:
                continue
            files = self._world.disk[partition]
            newest = files[max(name for name in files if name.endswith(".ckpt") and not name.startswith(AHEAD))]
            try:
                if (problem := unbalanced(newest)) is not None:
                    wrong.append(f"O4: {problem}")
                if state_digest(newest, files) != state_digest(want.checkpoints[want.end], want.segments):
                    wrong.append(f"O2: the state of partition {partition} differs")
            except CheckpointError as error:
                # Damage to a model is seen when its key comes, which it may never have done.
                if not self._world.keyed or partition not in self._world.wronged:
                    wrong.append(f"O2: partition {partition}: {error}")

    # What goes wrong

    def _kill(self) -> None:
        """Set a trap at one of the steps; whoever comes there first dies there."""
        self._scheduler.trap = self._chance.choice(STEPS)

    def _pause(self) -> None:
        if alive := [member for member in self._members if member.runs]:
            self._chance.choice(alive).process.sleeps_until = self._scheduler.steps + self._chance.randrange(
                3 * PATIENCE
            )
            self._world.seen["pauses"] += 1

    def _rebalance(self) -> None:
        self._world.group.rebalance()

    def _produce(self) -> None:
        partition = self._chance.randrange(self._partitions)
        topic = self._chance.choice(list(self._items[partition]))
        rest = self._items[partition][topic][self._written[topic, partition] :][: self._chance.randint(1, 20)]
        self._world.log.extend(topic, rest, partition)
        self._written[topic, partition] += len(rest)

    def _grow(self, more: int) -> None:
        for partition in range(self._partitions, min(PARTITIONS, self._partitions + more)):
            for topic in (TOPIC, LABELS, JOURNAL):
                self._world.log.create(topic, partition + 1)
            self._partitions += 1
        self._world.group.grow(range(self._partitions))

    def _damage(self) -> None:
        """A bit flips, or a file is cut off."""
        files = [(p, name) for p, found in self._world.disk.items() for name in found]
        if files:
            partition, name = self._chance.choice(files)
            content = bytearray(self._world.disk[partition][name])
            if content and self._chance.random() < 0.5:
                content[self._chance.randrange(len(content))] ^= 1 << self._chance.randrange(8)
            else:
                content = content[: self._chance.choice([0, len(content) // 2, max(0, len(content) - 1)])]
            self._world.disk[partition][name] = bytes(content)
            self._world.wronged.add(partition)
            self._world.seen["checkpoints damaged"] += 1

    def _plant(self) -> None:
        """A checkpoint appears of a time that this log has not come to: the commits since were lost."""
        partition = self._chance.randrange(self._partitions)
        begin = self._committed(partition)
        want = self._expected[partition]
        if begin < want.end and not self._world.apart:
            offset = self._chance.randint(begin + 1, want.end)
            files = self._world.disk.setdefault(partition, {})
            files[f"{offset:020d}.ckpt"] = want.checkpoints[offset]
            named = Checkpoint.from_bytes(want.checkpoints[offset]).files
            files.update((name, want.segments[name]) for name in named)
            self._world.seen["checkpoints ahead"] += 1

    def _trim(self) -> None:
        """Retention takes what the oldest checkpoint does not need; now and then more."""
        partition, log = self._chance.randrange(self._partitions), self._world.log
        committed = self._committed(partition)
        limit = min((offset for offset in self._present(partition) if offset <= committed), default=0)
        if self._world.apart:
            entries = self._journal(partition)
            at = next((n for n, entry in enumerate(entries) if entry.position == limit), 0)
            if at > log.bounds(JOURNAL, partition)[0]:
                log.trim(JOURNAL, at, partition)
                for topic, start in zip((TOPIC, LABELS), entries[at].pair, strict=True):
                    log.trim(topic, start, partition)
                self._world.seen["trims"] += 1
            return
        if self._chance.random() < 0.1:
            limit = committed
            self._world.wronged.add(partition)
        start, _ = log.bounds(TOPIC, partition)
        if limit > start:
            log.trim(TOPIC, self._chance.randint(start, limit), partition)
            self._world.seen["trims"] += 1
