"""What the simulated topics hold, and what an uninterrupted run makes of it."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from unittest import mock

from connectors.memory import (
    CONTROL,
    CORRUPT,
    EOF,
    Item,
    MemoryLog,
    MemoryReader,
    MemorySink,
    MemorySource,
    Record,
)
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.engine import task
from stream_moe.engine.codec import schema_header
from stream_moe.engine.journal import JournaledSource, _Pair
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.errors import CheckpointError
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed.factory import for_each_key
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.settings import KeySettings
from stream_moe.ports import Source
from stream_moe.report import LabelCounts
from stream_moe.snapshot import digest_of, pack, unpack
from stream_moe.types import Schema

TOPIC, LABELS, JOURNAL, GROUP, MODEL = "events", "labels", "journal", "group", "naive-bayes"
SCHEMA = Schema.numeric(2, ["a", "b"])
EVENTS = 40  # of a partition; with labels on their own and bad records about 70 offsets
HOUR = 3_600_000  # milliseconds
DEVICES = [b"north", b"south", b"east", b"west", b"attic", b"cellar", b"", None]  # keys of records
MODEL_BYTES = 14_000  # about what a model takes
KEYS = KeySettings(max_keys=5, memory_bytes=5 * MODEL_BYTES)  # of all partitions


@dataclass(frozen=True)
class Expected:
    """What an uninterrupted run leaves of one partition."""

    predictions: list[Record]
    dead_letters: list[Record]
    checkpoints: Mapping[int, bytes]  # at every offset
    segments: Mapping[str, bytes]  # that they name
    end: int


@cache
def items(variant: int, partition: int) -> list[Item]:
    """Make the log of a partition: labels that come early, late, twice, never; bad records; gaps."""
    chance = random.Random(f"{variant}/{partition}")
    placed: list[tuple[float, bytes | None]] = []
    for i in range(EVENTS):
        name = f"e{chance.randrange(i + 1) if chance.random() < 0.05 else i}"  # some ids are used again
        x, y = [round(chance.gauss(0, 1), 3), round(chance.gauss(0, 1), 3)], chance.choice("ab")
        if chance.random() < 0.5:
            placed.append((i, _json(id=name, x=x, y=y)))
            continue
        placed.append((i, _json(id=name, x=x)))
        kind = chance.random()
        if kind < 0.15:
            continue  # never
        at = i - chance.uniform(0, 4) if kind < 0.25 else i + chance.expovariate(0.15)
        placed.append((at, _json(id=name, y=y)))
        if kind > 0.8:
            again = y if kind < 0.9 else "ab".replace(y, "")
            placed.append((at + chance.uniform(0, 5), _json(id=name, y=again)))
    for _ in range(EVENTS // 8):
        odd = chance.choice([b"{", b"", None, b'{"x": [1]}', _json(id="nobody", y="a"), _json(id="n", y="z")])
        placed.append((chance.uniform(0.5, EVENTS), odd))
    found: list[Item] = []
    time = 0
    for _, value in sorted(placed, key=lambda pair: max(pair[0], 0)):
        time += int(chance.choice([0, 0.1, 0.5, 1, 5]) * HOUR)  # a label waits for a day
        headers = () if found else (schema_header(SCHEMA),)
        found.append(Record(value, chance.choice(DEVICES), time, headers))
        found += [CORRUPT] * (chance.random() < 0.02) + [CONTROL] * (chance.random() < 0.04)
    return found


@cache
def items_apart(variant: int, partition: int) -> tuple[list[Item], list[Item]]:
    """Make the logs of a partition of both topics: the labels that come on their own have one of their own."""
    events: list[Item] = []
    labels: list[Item] = []
    for item in items(variant, partition):
        alone = (
            isinstance(item, Record) and item.value is not None and b'"y"' in item.value and b'"x"' not in item.value
        )
        (labels if alone else events).append(item)
    return events, labels


def _json(**members: object) -> bytes:
    return json.dumps(members).encode()


def make_learner(schema: Schema) -> BlockClassifier:
    return build_model(MODEL, schema)


def factory(keyed: bool) -> Callable[[Schema], BlockClassifier]:
    """What a process builds its learners with."""
    return for_each_key(make_learner, KEYS) if keyed else make_learner


def settings(variant: int, keyed: bool, **changes: float) -> EngineSettings:
    """Settings of the engine; in every other variant little may wait, and not long."""
    bounds = {"max_waiting": 4, "label_seconds": 6 * HOUR / 1000} if variant % 2 else {}
    return EngineSettings(MODEL, keys=KEYS if keyed else None, **changes, **bounds)  # type: ignore[arg-type]


@cache
def expected(variant: int, keyed: bool, partition: int) -> Expected:
    """Run the engine over a partition, record by record, with nothing that goes wrong."""
    log = MemoryLog()
    log.extend(TOPIC, [*items(variant, partition), EOF], partition)
    return _expected(variant, keyed, partition, log, MemorySource(log, TOPIC, GROUP, {partition}))


def expected_apart(variant: int, keyed: bool, partition: int, journal: list[Record]) -> Expected:
    """Run the engine over a partition of two topics, in the order of a journal, with nothing that goes wrong."""
    log = MemoryLog()
    for topic, content in zip((TOPIC, LABELS), items_apart(variant, partition), strict=True):
        log.extend(topic, [*content, EOF], partition)
    log.extend(JOURNAL, [*journal, EOF], partition)
    labels, entries = MemoryReader(log, LABELS), MemoryReader(log, JOURNAL)
    source = Rehearsal(MemorySource(log, TOPIC, GROUP, {partition}), labels, entries)
    return _expected(variant, keyed, partition, log, source)


class Rehearsal(JournaledSource):
    """Takes its blocks from a journal although nothing was committed."""

    def seek(self, partition: int, offset: int) -> None:
        super().seek(partition, offset)
        self._pairs[partition] = _Pair(partition, self._begins[partition], self._blocks(partition))


def _expected(variant: int, keyed: bool, partition: int, log: MemoryLog, source: Source) -> Expected:
    store = Everything()
    engine = Engine(
        source,
        MemorySink(log, TOPIC, GROUP),
        lambda _: store,
        factory(keyed),
        settings(variant, keyed, block_rows=1, checkpoint_events=1),
        schema=SCHEMA,
    )
    with mock.patch.object(task, "SAVE_SECONDS", math.inf):
        engine.run()
    segments = {name: content for name, content in store.content.items() if name.endswith(".models")}
    whole = [Checkpoint.from_bytes(content, name) for name, content in store.content.items() if name not in segments]
    found = {one.offset: store.content[f"{one.offset:020d}.ckpt"] for one in whole}
    predictions, dead = (log.records(topic, partition) for topic in ("predictions", "dead-letters"))
    return Expected(predictions, dead, found, segments, max(found))


def unbalanced(content: bytes) -> str | None:
    """Say what is wrong with the account of the labels."""
    found = Checkpoint.from_bytes(content)
    join, scored = found.plain["join"], int(found.arrays["quality/counts"][0])
    counts = LabelCounts(**join["counts"])
    settled = counts.applied + counts.expired + counts.duplicate + counts.conflicting + counts.orphan
    balanced = counts.received == settled + len(join["labels"]) and counts.applied == scored
    return None if balanced else f"{counts}, {len(join['labels'])} wait, {scored} were scored"


def state_digest(content: bytes, files: Mapping[str, bytes]) -> str:
    """Digest of everything that a checkpoint holds of the state: model, scores, waiting labels, counts.

    Of keys: of each one's model, wherever among the files it lies. CheckpointError where one is missing or damaged.
    """
    found = Checkpoint.from_bytes(content)
    parts = unpack((found.arrays, found.plain | {"offset": found.offset}))
    if "keys" in found.plain["learner"]:
        learner = KeyedLearner(SCHEMA, make=make_learner, max_keys=KEYS.max_keys)
        learner.attach(Everything(files))
        learner.restore(parts["learner"])
        for key in learner._index.slots:
            learner._lent(key)
        parts["learner"] = {}, {"digest": learner.digest}
    return digest_of(pack(parts))


class Everything:
    """A `CheckpointStore` that forgets nothing."""

    def __init__(self, content: Mapping[str, bytes] = MappingProxyType({})) -> None:
        self.content = dict(content)

    def names(self) -> list[str]:
        return sorted(self.content)

    def read(self, name: str) -> bytes:
        if name not in self.content:
            raise CheckpointError(f"{name}: not there")
        return self.content[name]

    def read_parts(self, name: str, parts: Sequence[tuple[int, int]]) -> list[bytes]:
        content = self.read(name)
        return [content[begin:end] for begin, end in parts]

    def write(self, name: str, content: bytes) -> None:
        self.content[name] = content

    def delete(self, name: str) -> None:
        pass
