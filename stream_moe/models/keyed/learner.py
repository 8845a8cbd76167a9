"""A model for each key behind the one learner's contract."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress, islice, pairwise
from typing import Any, Self

import numpy as np

from stream_moe.checkpoints.checkpoint import understood
from stream_moe.errors import CheckpointError, ConfigError, DataError
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed import record
from stream_moe.models.keyed.account import Account
from stream_moe.models.keyed.barrier import Barrier, drop_dead, save
from stream_moe.models.keyed.feature import check_feature, feature_keys
from stream_moe.models.keyed.index import KeyIndex
from stream_moe.models.keyed.memory import KeyMemory, Leaving
from stream_moe.models.keyed.residents import Resident, Residents
from stream_moe.models.keyed.segments import Segments, check_segments
from stream_moe.models.keyed.settings import MAX_KEYS
from stream_moe.models.parts import Part
from stream_moe.models.state import model_class
from stream_moe.ports import CheckpointStore
from stream_moe.ranges import number, of
from stream_moe.report import KeyReport, LearnerReport
from stream_moe.rows import RowEncoder
from stream_moe.runtime.failpoints import reach
from stream_moe.snapshot import Snapshot, digest_of, unpack
from stream_moe.types import NO_TICKET, SHARED, UNLABELLED, Float32, Float64, Int32, Int64, Schema

TOGETHER = 256  # keys whose models are read back with one call, and may go beyond the memory bound
MAX_SEGMENTS = 64  # of which a checkpoint may consist before small ones are joined
COMPACT_BYTES = 64 << 20  # that one checkpoint copies at most from old segments


class KeyedLearner(BlockClassifier):
    """One model for each key; the least recently used ones wait in a store until their key returns.

    What is learnt does not depend on where the models are: answers and digest are those of a run in which all stay
    in memory, or in which each key's rows were given to a model of its own.

    Parameters
    ----------
    schema
        Features and classes, of every key.
    make
        Builds a model for the schema. Must be deterministic.
    max_keys
        How many keys have a model: from a key's first label on. For one more, the key whose last label lies furthest
        back is forgotten.
    memory
        What the models in memory may take, with those of others who were given the same; changes no result. The
        others go to the store that `attach` was given; without one all stay in memory. None = one of its own.
    key_feature
        The feature that is the key of rows whose keys are not given. None = they share one model.

    Examples
    --------
    >>> from stream_moe.models.catalogue import build_model
    >>> schema = Schema.numeric(1, ["no", "yes"])
    >>> model = KeyedLearner(schema, make=lambda schema: build_model("naive-bayes", schema))
    >>> x, y = np.float32([[0], [0], [0], [0]]), np.int32([0, 1, 0, 1])
    >>> _ = model.step(x, y, keys=[b"till-7", b"till-9", b"till-7", b"till-9"])
    >>> model.step(x[:2], y[:2], keys=[b"till-7", b"till-9"]).argmax(1).tolist(), model.keys.known
    ([0, 1], 2)
    """

    def __init__(
        self,
        schema: Schema,
        *,
        make: Callable[[Schema], BlockClassifier],
        max_keys: int = MAX_KEYS,
        memory: KeyMemory | None = None,
        key_feature: str | None = None,
    ) -> None:
        if schema.sparse:
            raise ConfigError("model per key: takes no sparse rows; have one model for each partition")
        if key_feature is not None:
            check_feature(schema, key_feature)
        self.make, self.max_keys, self.key_feature = make, max_keys, key_feature
        self.memory = memory if memory is not None else KeyMemory()
        super().__init__(schema)

    def attach(self, store: CheckpointStore) -> None:
        self.files = Segments(store)
        self.memory.join(self)

    def _start(self, schema: Schema) -> None:
        self._template = self.make(schema)
        kind, parameters = type(self._template), self._template._get_params()
        if parameters.get("executor", "threads") != "threads":
            raise ConfigError(
                f"executor: {parameters['executor']!r} would start shards for each key; leave it at threads"
            )

        phases = self.phases

        def fresh() -> BlockClassifier:  # without reading signatures and settings again for each key
            model = kind(**parameters)
            model.phases = phases
            return model

        self.residents = Residents(fresh, schema)
        self._barrier: Barrier | None = None
        self._index = KeyIndex(self.max_keys)
        self.files: Segments = Segments(None)
        self._account = Account(self._template.n_experts, schema.n_classes)
        self._evicted = self._loaded = 0

    def _grow(self, schema: Schema) -> None:
        raise ConfigError("a model for each key has the schema that it was given, and does not grow")

    @property
    def n_experts(self) -> int:
        return self._template.n_experts

    # Rows and their keys.
    def step(
        self,
        x: Float32,
        y: Int32,
        weights: Float32 | None = None,
        *,
        tickets: Int64 | None = None,
        keys: Sequence[bytes] | None = None,
        w: Float64 | None = None,
    ) -> Float64:
        """Test then train as `BlockClassifier.step` does, each row with the model of its key.

        `keys` are n byte strings; None = the rows' values of `key_feature`.
        """
        if w is not None:
            raise ConfigError("w: with a model for each key all events count the same; weigh classes instead")
        if keys is not None and len(keys) != len(y):  # before any ticket is taken note of
            raise DataError(f"keys: {len(keys)} for {len(y)} rows; give one to each row")
        rows = self._checked_rows(x, y, weights, tickets)
        return self._step_by(keys if keys is not None else self._keys_of(rows[0]), *rows)

    def _step(self, x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        return self._step_by(self._keys_of(x), x, y, weights, tickets)

    def _keys_of(self, x: Float32) -> list[bytes]:
        return [SHARED] * len(x) if self.key_feature is None else feature_keys(self.schema, self.key_feature, x)

    def _step_by(self, keys: Sequence[bytes], x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        n = len(x)
        proba = np.empty((n, self.schema.n_classes))
        labelled = (y != UNLABELLED).tolist()
        start = 0
        while start < n:
            stop, leaving = self._index.cut(keys, labelled, start)
            if leaving:
                self.phases.begin()
                self._save_due(islice(self._index.slots, leaving))
                for key in self._index.forget(leaving):
                    self.residents.drop(key)
                self.phases.end("swap")
            part = slice(start, stop)
            proba[part] = self._take(keys[start:stop], x[part], y[part], weights[part], tickets[part])
            start = stop
        self._account.update(proba, y, weights)
        self.phases.end("account")
        return proba

    def _take(self, keys: Sequence[bytes], x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        """Step each key's model through its rows, which lie together once the rows are sorted by key."""
        self.phases.begin()
        names, order, ends = _grouped(keys)
        learnt = list(compress(keys, y != UNLABELLED))
        last_use = list(dict.fromkeys(reversed(learnt)))[::-1]
        fresh = {key for key, new in zip(last_use, self._index.touch(last_use), strict=True) if new}
        x, y, tickets = x[order], y[order], tickets[order]
        changing = (y != UNLABELLED) | ((tickets != NO_TICKET) & self._template.keeps_tickets)
        changes = np.add.reduceat(changing, ends[:-1], dtype=np.int64).tolist() if len(y) else []
        proba, said_by = np.empty((len(y), self.schema.n_classes)), np.empty(weights.shape, np.float32)
        self.phases.end("route")
        for first in range(0, len(names), TOGETHER):
            batch = names[first : first + TOGETHER]
            places = pairwise(ends[first : first + TOGETHER + 1])
            self._save_due(compress(batch, changes[first:]))  # none of them is in the store
            summoned = self._summon(batch, fresh)
            for key, resident, (begin, end), n in zip(batch, summoned, places, changes[first:], strict=False):
                model = resident.model if resident is not None else self._template
                rows = slice(begin, end)
                if resident is None or key in fresh:  # before a key's first label nothing is kept for it
                    known = np.flatnonzero(y[rows] != UNLABELLED)
                    tickets[begin : begin + known[0] if len(known) else end] = NO_TICKET
                proba[rows] = model._step_rows(x[rows], y[rows], said_by[rows], tickets[rows])
                if resident is not None and n:
                    self.residents.learnt(resident, n)
            self.memory.shrink()
            self.phases.end("swap")
        answers = np.empty_like(proba)
        answers[order], weights[order] = proba, said_by
        return answers

    def _predict(self, x: Float32) -> Float64:
        names, order, ends = _grouped(self._keys_of(x))
        x, proba = x[order], np.empty((len(x), self.schema.n_classes))
        for key, (begin, end) in zip(names, pairwise(ends), strict=True):
            proba[order[begin:end]] = self._lent(key)._predict(x[begin:end])
        return proba

    def _lent(self, key: bytes) -> BlockClassifier:
        """Return the model of a key for reading only: nothing is taken in or evicted for it."""
        if (resident := self.residents.held.get(key)) is not None:
            return resident.model
        if key not in self._index.slots:
            return self._template
        model = self.make(self.schema)
        with of(f"the model of key {ascii(key)[1:][:60]}"), understood("its state"):
            model.restore(next(self._read([key])))
        return model

    # In memory or in the store.
    def _summon(self, keys: Sequence[bytes], fresh: set[bytes]) -> list[Resident | None]:
        """Have the models of these keys in memory, as the last used ones; None for a key that never learnt."""
        held, known, now = self.residents.held, self._index.slots, self.memory.tick()
        absent = [key for key in keys if key not in held and key not in fresh and key in known]
        found = dict(zip(absent, self._read(absent), strict=True))
        self._loaded += len(absent)
        for key in keys:
            if key in held:
                self.residents.use(key, now)
            elif key in known:
                self.residents.add(key, found.get(key), now)
        self.phases.end("swap")
        return [held.get(key) for key in keys]

    def _read(self, keys: Sequence[bytes]) -> Iterator[Snapshot]:
        index, slots = self._index, [self._index.slots[key] for key in keys]
        spans = [(int(index.segment[s]), int(index.offset[s]), int(index.length[s])) for s in slots]
        for key, slot, (segment, _, _), packed in zip(keys, slots, spans, self.files.read(spans), strict=True):
            where = f"the model of key {ascii(key)[1:][:60]} in {self.files.names[segment]}"
            yield record.from_bytes(packed, index.digest[slot].tobytes(), where)

    def _save_due(self, keys: Iterable[bytes]) -> None:
        """Have the models of these keys written that a barrier still waits for: they are about to change."""
        if self._barrier is not None and self._barrier.due:
            for key in keys:
                if key in self._barrier.due:
                    self._barrier.save(key)

    def evict(self, leaving: Leaving) -> None:
        """Write models that are in memory, where they changed, and let them go."""
        self._save_due(key for key, _ in leaving)
        if changed := [(key, resident) for key, resident in leaving if resident.changed]:
            number = self.files.open()
            for key, resident in changed:
                save(key, resident, self._index, self.files, number)
            self.files.seal(number, flush=self.files.sizes[number] > 0)
            drop_dead(self._index, self.files, self._barrier.pinned if self._barrier is not None else ())
        for key, _ in leaving:
            self.residents.drop(key)
        self._evicted += len(leaving)
        reach("models-evicted")

    def _worn(self) -> list[int]:
        """Number the segments to copy from: those mostly dead, and the smallest of too many."""
        sizes, live = self.files.sizes, self._index.live
        worn = [number for number, size in sizes.items() if live[number] < size / 2]
        kept = sorted(set(sizes) - set(worn), key=sizes.__getitem__)
        if len(kept) > MAX_SEGMENTS:
            worn += kept[: len(kept) - MAX_SEGMENTS // 2]
        worn.sort(key=live.__getitem__)
        within = np.cumsum([live[number] for number in worn]) <= COMPACT_BYTES
        return [number for number, fits in zip(worn, within, strict=True) if fits]

    # The state.
    def _parts(self) -> Mapping[str, Part]:
        return {"account": self._account}

    def begin_snapshot(self) -> Barrier:
        """Begin a snapshot of the state as it is now; the one before is completed.

        Its models wait in a segment, for `files.flush`; without a store the snapshot holds them itself.
        """
        if self._barrier is not None:
            self._barrier.complete()
        drop_dead(self._index, self.files, ())
        plain = {"schema": self.schema.digest, "forgotten": self._index.forgotten, "next_ticket": self._tickets.next}
        others = {"account": self._account.snapshot()}
        self._barrier = Barrier(self._index, self.residents, self.files, self._worn(), plain, others)
        return self._barrier

    def snapshot(self) -> Snapshot:
        """Give the index, with the models where there is no store; see `begin_snapshot`."""
        found = self.begin_snapshot().advance(math.inf)
        assert found is not None
        return found

    def restore(self, snapshot: Snapshot) -> None:
        found = unpack(snapshot)
        arrays, plain = found["keys"]
        if plain["schema"] != self.schema.digest:
            raise CheckpointError("keys: the models are of another schema")
        names, sizes = plain["segments"], plain["sizes"]
        check_segments(names, sizes)
        contents = {name: array.tobytes() for name, array in found.get("models", ({}, {}))[0].items()}
        if not self.files.stored and [len(contents.get(name, b"")) for name in names] != sizes:
            raise CheckpointError("keys: the models lie in a store, and this learner was given none")
        if self._barrier is not None:
            self._barrier.cancel()
        self._index.restore(arrays, sizes)
        self._index.forgotten = number("keys", plain, "forgotten")
        super().restore(snapshot)
        self.go_on_from_ticket(number("keys", plain, "next_ticket"))
        self.files.adopt(names, sizes, contents)
        if contents:  # of a file: better refused now than when a key comes
            for _ in self._read(list(self._index.slots)):
                pass
        for key in list(self.residents.held):
            self.residents.drop(key)

    @property
    def digest(self) -> str:
        """Hex sha256 over the digests of all models, in the order of their keys' last labels, wherever they are."""
        sha = hashlib.sha256(digest_of(self._account.snapshot()).encode())
        sha.update(f"{self._index.forgotten} {len(self._index)}".encode())
        for key, slot in self._index.slots.items():
            resident = self.residents.held.get(key)
            changed = resident is not None and resident.changed
            content = record.to_bytes(resident.model.snapshot()) if resident is not None and changed else None
            digest = self._index.digest[slot].tobytes() if content is None else record.digest(content)
            sha.update(len(key).to_bytes(4, "big") + key + digest)
        return sha.hexdigest()

    def _report(self) -> LearnerReport:
        return self._account.report(self._template.report(), self.residents.bytes)

    @property
    def keys(self) -> KeyReport:
        """How many keys and models there are, and where."""
        return KeyReport(
            known=len(self._index),
            forgotten=self._index.forgotten,
            resident=len(self.residents),
            resident_bytes=self.residents.bytes,
            evicted=self._evicted,
            loaded=self._loaded,
            segments=len(self.files.sizes),
            segment_bytes=sum(self.files.sizes.values()),
        )

    def to_kept(self) -> dict[str, Any]:
        """As `BlockClassifier.to_kept`, with what makes a key's model; ConfigError where they lie in a store."""
        if self.files.stored:
            raise ConfigError("keys: their models lie in a store, beside the checkpoints of a daemon, and in no file")
        each, own = self._template.to_kept(), {"max_keys": self.max_keys, "key_feature": self.key_feature}
        return super().to_kept() | {"parameters": own | {"each": {k: each[k] for k in ("name", "parameters")}}}

    @classmethod
    def from_kept(cls, schema: Schema, kept: Mapping[str, Any]) -> Self:
        """As `BlockClassifier.from_kept`."""
        own = dict(kept["parameters"])
        each = {**own.pop("each"), "vocabulary": RowEncoder(schema).to_dict()}
        kind = model_class(each["name"])
        if kind is None or not issubclass(kind, BlockClassifier):
            raise ConfigError(f"keys: {each['name']!r} is no model of stream_moe that predicts classes")
        return cls(schema, make=lambda schema: kind.from_kept(schema, each), **own)

    def learning_parameters(self) -> dict[str, Any]:
        keyed = {"model_per": "key", "max_keys": self.max_keys, "key_feature": self.key_feature}
        return self._template.learning_parameters() | keyed


def _grouped(keys: Sequence[bytes]) -> tuple[list[bytes], Int64, list[int]]:
    """Sort rows by key: the keys, the rows' order [n], and where each key's rows begin, with the end of the last."""
    names = list(dict.fromkeys(keys))
    number = dict(zip(names, range(len(names)), strict=True))
    codes = np.fromiter(map(number.__getitem__, keys), np.uint16 if len(names) < 1 << 16 else np.int64, len(keys))
    order = np.argsort(codes, kind="stable")  # of 16 bits: a radix sort
    return names, order, [0, *np.cumsum(np.bincount(codes, minlength=len(names))).tolist()]
