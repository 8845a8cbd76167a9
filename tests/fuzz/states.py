"""Damaged states under a right checksum: each array and each number of every part, one element or all of them.

A case is a state of which one thing was changed. It is refused by one line, or it is harmless: it is restored and
learns on over a few thousand events, with nothing read or written outside of an array, no exception and no hang. The
cases run in forked processes, so that one that dies is seen and the others go on; under NUMBA_BOUNDSCHECK, which
`checked` sets, compiled code raises at an index beyond its array, even where nothing would have crashed.
"""

from __future__ import annotations

import json
import math
import os
import random
import resource
import select
import signal
import sys
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream_moe.checkpoints.checkpoint import understood
from stream_moe.engine.settings import EngineSettings
from stream_moe.engine.state import PartitionState
from stream_moe.errors import CheckpointError
from stream_moe.experts.kinds import KINDS
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.sparse import SparseDriftMoE
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.sparse_rows import SparseRows
from stream_moe.types import Block, Schema
from tests.laws.cases import SCHEMA, STORABLE, build, mixed_stream

HANG = 30.0  # seconds for one case; the slowest take one
ROOM = 4 << 30  # bytes of memory that a case may take beside what there is
LEARNT, LATE = 900, 40  # events before the state is taken; by how many events a late label is late
SMALL = {
    "driftmoe": {"trees": "2", "window": "100", "prototypes": "8"},
    "adaptive-tree": {"group": "2", "drift_delta": "0.3", "warning_delta": "0.9"},  # to have all kinds of trees
}
WRONG_NUMBERS: list[Any] = [
    2**63 - 1, -(2**63), -1, 10**6, 10**9, 10**400, math.nan, math.inf, 1.5, "1", None, True, [],
]  # fmt: skip
OUTCOMES = ("refused", "harmless", "broken")


@dataclass
class Subject:
    """What is restored, with a state of it."""

    name: str
    fresh: Callable[[], Any]
    restore: Callable[[Any, Snapshot], None]
    go_on: Callable[[Any, int], None]
    state: Snapshot


@dataclass
class Case:
    """One state, changed."""

    part: str
    what: str
    snapshot: Snapshot


def subjects(names: list[str]) -> Iterator[Subject]:
    """Make the learners of these names, "sparse" and "engine": what a partition keeps beside one."""
    others = {"engine": engine_subject, "sparse": sparse_subject}
    for name in names:
        yield others[name]() if name in others else learner_subject(name)


NAMES = [*STORABLE, "sparse", "engine"]


def learner(name: str) -> BlockClassifier:
    if name in SMALL:
        return build_model(name, SCHEMA, seed=3, options=SMALL[name])
    return build(name)


def learner_subject(name: str) -> Subject:
    model = learner(name)
    teach(model, *mixed_stream(LEARNT))

    def go_on(model: Any, events: int) -> None:
        x, y = mixed_stream(events, 2)
        teach(model, x, y)
        model.predict_proba_many(x[:50])
        model.take_drifts()
        model.report()
        model.snapshot()
        assert model.digest

    return Subject(name, lambda: learner(name), lambda model, state: model.restore(state), go_on, model.snapshot())


def teach(model: Any, x: Any, y: Any) -> None:
    """Step through events, of which every third has its label late; what was said of it is kept under its ticket."""
    late = np.arange(len(x)) % 3 == 0
    for start in range(0, len(x), 128):
        rows = slice(start, min(start + 128, len(x)))
        labels = np.where(late[rows], np.int32(-1), y[rows])
        first = model._tickets.next
        tickets = np.where(late[rows], first + np.cumsum(late[rows]) - 1, -1)
        model.step(x[rows], labels, tickets=tickets)
        asked = np.flatnonzero(late[rows] & (y[rows] >= 0))[:-8]  # of the others the label never comes
        model.step(x[rows][asked], y[rows][asked], tickets=tickets[asked])


def sparse_subject() -> Subject:
    """Return a mixture over sparse rows, whose own experts alone are not tried as parts of another."""

    def fresh() -> SparseDriftMoE:
        schema = Schema((), ("ham", "spam"), sparse=True)
        return SparseDriftMoE(schema, columns=8, trees=1, window=20, without="history-softmax,knn", seed=1)

    def go_on(model: Any, events: int) -> None:
        make = np.random.default_rng(1)
        for _ in range(0, events, 100):
            words, y = make.integers(0, 40, (100, 6)), make.integers(0, 2, 100).astype(np.int32)
            rows = [{f"w{w + 3 * label}": 1 + w % 2 for w in row} for row, label in zip(words, y, strict=True)]
            model.step(SparseRows.of(rows), y)
        model.predict_proba_many(SparseRows.of(rows))
        model.report()
        assert model.digest

    model = fresh()
    go_on(model, LEARNT)
    return Subject("sparse", fresh, lambda model, state: model.restore(state), go_on, model.snapshot())


def engine_subject() -> Subject:
    """Scores, detectors, counts and waiting events of a partition."""

    def fresh() -> PartitionState:
        return PartitionState(build("no-change"), EngineSettings("no-change"))

    def go_on(state: Any, events: int) -> None:
        x, y = mixed_stream(events, 2)
        x = np.repeat(x, 8, axis=0)  # so that the detectors, which look at one event in eight, test
        y = np.repeat(y, 8)
        late = np.arange(len(x)) % 5 == 0
        first = state.counts.features
        for start in range(0, len(x), 512):
            rows = np.arange(start, min(start + 512, len(x)))
            known = np.where(late[rows], np.int32(-1), y[rows])
            ids, now = [f"e{first + i}" for i in rows.tolist()], 1000 + first + rows
            state.take(Block(x[rows], known, ids, np.ones(len(rows), np.bool_), now, now))
            came = rows[late[rows] & (y[rows] >= 0)][:-5]
            names, none = [f"e{first + i}" for i in came.tolist()], np.zeros(len(came), np.bool_)
            if len(came):
                state.take(Block(x[came], y[came], names, none, now[-1] + np.arange(len(came)), now[-1] + 0 * came))
        state.quality.report()
        state.watch.report()
        json.dumps(pack(state.parts())[1])

    state = fresh()
    go_on(state, LEARNT)
    whole = pack({"learner": state.learner.snapshot(), **state.parts()})
    return Subject("engine", fresh, lambda state, found: state.restore(unpack(found)), go_on, whole)


def cases(subject: Subject, seed: int, share: float = 1.0) -> Iterator[list[Case]]:
    """Make the cases of a subject, those of one array or number together; of each, that share is taken by chance."""
    make = random.Random(seed)
    arrays, plain = subject.state
    alone = subject.name in KINDS and subject.name != "no-change"  # the account beside an expert is the same for all
    for name, array in arrays.items():
        if alone and not name.startswith("expert/"):
            continue
        found = [
            Case(_part(name), f"{name}: {what}", (arrays | {name: other}, plain))
            for what, other in changed_arrays(make, array)
        ]
        yield [case for case in found if make.random() < share]
    for path in list(_numbers(plain)):
        if alone and path[0] != "expert":
            continue
        found = []
        for value in WRONG_NUMBERS:
            other = json.loads(json.dumps(plain))
            inner = other
            for key in path[:-1]:
                inner = inner[key]
            inner[path[-1]] = value
            where = "/".join(map(str, path))
            found.append(Case(_part(where), f"{where} = {str(value)[:20]}", (arrays, other)))
        yield [case for case in found if make.random() < share]


def changed_arrays(make: random.Random, array: Any) -> Iterator[tuple[str, Any]]:
    """Give an array with wrong values, in one place and in all, and of another length or type."""
    for value in _values(array.dtype):
        if array.size:
            one = array.copy()
            one.flat[make.randrange(array.size)] = value
            yield f"one = {value}", one
            yield f"all = {value}", np.full_like(array, value)
    yield "empty", array[:0]
    yield "cut", array[:-1]
    yield "twice", np.concatenate([array, array])
    yield "flat", np.zeros((2**40, 0), array.dtype)
    with np.errstate(all="ignore"):
        yield "other type", array.astype(np.uint8 if array.dtype != np.uint8 else np.float32)
    if array.ndim > 1:
        yield "turned", np.ascontiguousarray(array.T)


def _values(dtype: Any) -> list[Any]:
    if dtype == np.bool_:
        return [True, False]
    if np.issubdtype(dtype, np.floating):
        top = float(np.finfo(dtype).max)
        return [top, -top, -1.0, 0.0, 1e6, 1e9, math.nan, math.inf, -math.inf]
    info = np.iinfo(dtype)
    return [v for v in (info.max, info.min, -1, 0, 10**6, 10**9) if info.min <= v <= info.max]


def _part(name: str) -> str:
    """Name the part that an array belongs to."""
    parts = name.split("/")
    return "/".join(part for part in parts[:-1] if not part.isdigit()) or parts[0]


def _numbers(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the paths of the numbers among JSON values; of a long list, those of its first two members."""
    if isinstance(node, dict):
        for key, inner in node.items():
            yield from _numbers(inner, (*path, key))
    elif isinstance(node, list):
        for at, inner in enumerate(node[:2]):
            yield from _numbers(inner, (*path, at))
    elif isinstance(node, int | float) and not isinstance(node, bool):
        yield path


def outcome(subject: Subject, case: Case, events: int) -> str:
    """Say what becomes of a case; anything but "refused" and "harmless" is what broke."""
    target = subject.fresh()
    try:
        with understood("it"):
            subject.restore(target, case.snapshot)
    except CheckpointError as error:
        text = str(error)
        good = text.isascii() and "\n" not in text and len(text) < 400 and "out of bounds" not in text
        return "refused" if good else f"message: {text[:200]!r}"
    subject.go_on(target, events)
    return "harmless"


def run(subject: Subject, group: list[Case], events: int) -> Iterator[tuple[Case, str]]:
    """Try cases in a forked process, and again in another from behind each that ended it."""
    done = 0
    while done < len(group):
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _try_all(subject, group[done:], events, write)
        os.close(write)
        answers, why = _answers(read, child)
        for answer in answers:
            yield group[done], answer
            done += 1
        if why and done < len(group):
            yield group[done], why
            done += 1


def _try_all(subject: Subject, group: list[Case], events: int, write: int) -> None:
    """Write the outcome of each case, a line each, and end the process."""
    soft = ROOM + int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (soft, soft))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    code = 1
    try:
        for case in group:
            try:
                said = outcome(subject, case, events)
            except BaseException as error:
                said = f"{type(error).__name__}: {str(error)[:150]}"
            os.write(write, said.replace("\n", " ").encode() + b"\n")
        code = 0
    finally:
        os._exit(code)


def _answers(read: int, child: int) -> tuple[list[str], str]:
    """Return the lines that a child wrote, and how it ended, where not as it should."""
    content, why = b"", ""
    while True:
        ready, _, _ = select.select([read], [], [], HANG)
        if not ready:
            os.kill(child, signal.SIGKILL)
            why = f"hang: no answer for {HANG:.0f} s"
            break
        more = os.read(read, 1 << 16)
        if not more:
            break
        content += more
    os.close(read)
    _, status = os.waitpid(child, 0)
    if not why and status:
        why = f"died: signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"died: {status}"
    return content.decode().splitlines(), why


class Table:
    """What became of all cases, by subject and part."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Counter[str]] = {}
        self.broken: list[str] = []

    def add(self, subject: Subject, case: Case, said: str) -> None:
        kind = said if said in OUTCOMES else "broken"
        self.counts.setdefault((subject.name, case.part), Counter())[kind] += 1
        if kind == "broken":
            self.broken.append(f"{subject.name}: {case.what}: {said}")

    def lines(self) -> Iterator[str]:
        yield f"{'learner':<20} {'part':<32} {'cases':>6} " + " ".join(f"{name:>8}" for name in OUTCOMES)
        for (subject, part), counts in self.counts.items():
            numbers = " ".join(f"{counts[name]:>8,}" for name in OUTCOMES)
            yield f"{subject:<20} {part:<32} {counts.total():>6,} {numbers}"
        total: Counter[str] = sum(self.counts.values(), Counter())
        yield f"{'all':<53} {total.total():>6,} " + " ".join(f"{total[name]:>8,}" for name in OUTCOMES)


def fuzz(names: list[str], *, events: int, seed: int, share: float = 1.0) -> int:
    """Try all cases of these subjects; print the table, and return 1 where one broke."""
    table, began = Table(), time.perf_counter()
    for subject in subjects(names):
        with np.errstate(all="ignore"):
            whole = outcome(subject, Case("", "", subject.state), events)  # which also compiles everything
        assert whole == "harmless", whole
        for group in cases(subject, seed, share):
            for case, said in run(subject, group, events):
                table.add(subject, case, said)
    print("\n".join(table.lines()))
    print(
        f"{time.perf_counter() - began:.0f} s, {events:,} events after each, seed {seed}, "
        f"indices {'checked' if os.environ.get('NUMBA_BOUNDSCHECK') == '1' else 'not checked'}"
    )
    for line in table.broken[:200]:
        print(f"broken: {line}", file=sys.stderr)
    return int(bool(table.broken))
