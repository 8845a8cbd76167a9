"""Experts in shards, in other processes or actors that may die: what the two executors have in common.

The pool keeps, for each shard, its state at the last barrier (a snapshot, a restore, growth) and the runs since.
It rebuilds a shard that dies from them, with the same bits: an expert's state depends on nothing else.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from stream_moe.errors import ExecutorError
from stream_moe.experts.base import Expert, ExpertFacts
from stream_moe.experts.executors.shard import Failure, Run
from stream_moe.runtime.threads import Task
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import Bool, Float32, Float64, Int32, Schema

JOURNAL_BYTES = 2**26  # of runs since the last barrier; more where the state itself is larger than that
LIVES = 3  # a shard that dies so often in one call dies of the call
_log = logging.getLogger(__name__)


class WorkerDiedError(Exception):
    """The process or actor of a shard is no more."""


class Worker(Protocol):
    """The process or actor of one shard; one call at a time."""

    def begin(self, method: str, arguments: Sequence[Any]) -> None:
        """Begin `Shard.call(method, *arguments)`; raises nothing where the worker is dead."""

    def finish(self) -> Any:
        """Return the answer. Raises WorkerDiedError."""

    def close(self) -> None:
        """End it; never raises."""


class ShardedPool(ABC):
    """E experts dealt among shards: expert e is in shard e modulo their number.

    A subclass opens the workers, brings a run to all of them and their answers back.

    Parameters
    ----------
    experts
        Which have learnt nothing yet. They stay here as they are, for a shard that must be rebuilt.
    shards
        How many; no more than there are experts.
    """

    executor = "elsewhere"

    def __init__(self, experts: Sequence[Expert], shards: int) -> None:
        shards = min(shards, len(experts))
        self._fresh = [list(experts[s::shards]) for s in range(shards)]
        self.workers = [self._open(fresh) for fresh in self._fresh]
        self._barrier = list[Snapshot]()
        self._runs, self._bytes, self._limit = list[Run](), 0, JOURNAL_BYTES
        self._facts: list[ExpertFacts] | None = None  # as of the last change: two calls in a block wait once
        self.rebuilt = 0
        self._set_barrier()

    @abstractmethod
    def _open(self, experts: Sequence[Expert]) -> Worker:
        """Start a worker that makes a `Shard` of these experts."""

    @abstractmethod
    def _scatter(self, run: Run, n_classes: int) -> tuple[str, list[Sequence[Any]]]:
        """Bring a run to where all workers see it; return the call of each shard."""

    @abstractmethod
    def _gathered(self, shard: int, answer: Any) -> Float64:
        """Return float64 [k, n, C], the predictions of the shard's experts."""

    def __len__(self) -> int:
        return sum(map(len, self._fresh))

    @property
    def kinds(self) -> list[str]:
        return [self._fresh[e % len(self._fresh)][e // len(self._fresh)].kind for e in range(len(self))]

    def step(
        self, x: Float32, y: Int32, weight: Float64, active: Bool | None = None, *, beside: Task | None = None
    ) -> Float64:
        """As `ExpertPool.step`; what is to be done beside it is done before."""
        if beside is not None:
            beside()
        run = Run(x, y[:1] if y.strides[0] == 0 else y, weight, active)
        self._facts = None
        proba = self._pass(run)
        self._runs.append(run.copy())  # the caller's arrays are the caller's
        self._bytes += self._runs[-1].nbytes
        if self._bytes > self._limit:
            self._set_barrier()
        return proba

    def predict(self, x: Float32, active: Bool | None = None) -> Float64:
        """As `ExpertPool.predict`."""
        return self._pass(Run(x, None, None, active))

    def add(self, experts: Sequence[Expert]) -> None:
        """As `ExpertPool.add`."""
        if not experts:
            return
        self._facts = None
        parts: list[list[Expert]] = [[] for _ in self.workers]
        for e, expert in enumerate(experts, len(self)):
            parts[e % len(parts)].append(expert)
        self._call("add", [(part,) for part in parts])
        for fresh, part in zip(self._fresh, parts, strict=True):
            fresh.extend(part)
        self._set_barrier()

    def grow(self, schema: Schema) -> None:
        """As `ExpertPool.grow`."""
        self._facts = None
        self._call_all("grow", schema)
        for fresh in self._fresh:
            for expert in fresh:
                expert.grow(schema)
        self._set_barrier()

    def snapshot(self) -> Snapshot:
        """As `ExpertPool.snapshot`; a barrier."""
        self._set_barrier()
        parts = [unpack(part) for part in self._barrier]
        return pack({str(e): parts[e % len(parts)][str(e // len(parts))] for e in range(len(self))})

    def restore(self, snapshot: Snapshot) -> None:
        """As `ExpertPool.restore`; a barrier."""
        found, shards = unpack(snapshot), len(self.workers)
        parts = [
            pack({str(e // shards): found[str(e)] for e in range(s, len(self), shards) if str(e) in found})
            for s in range(shards)
        ]
        self._facts = None
        self._call("restore", [(part,) for part in parts])
        self._set_barrier()

    def facts(self) -> list[ExpertFacts]:
        """As `ExpertPool.facts`."""
        if self._facts is None:
            parts = self._call_all("facts")
            self._facts = [parts[e % len(parts)][e // len(parts)] for e in range(len(self))]
        return self._facts

    def close(self) -> None:
        """End all workers; a pool that is used again rebuilds them. Its end, or the process's, does this too."""
        for worker in self.workers:
            worker.close()

    def _pass(self, run: Run) -> Float64:
        shards, n_classes = len(self.workers), self._fresh[0][0].n_classes
        proba = np.empty((len(self), len(run.x), n_classes))
        for s, answer in enumerate(self._call(*self._scatter(run, n_classes))):
            proba[s::shards] = self._gathered(s, answer)
        return proba

    def _call_all(self, method: str, *arguments: Any) -> list[Any]:
        return self._call(method, [arguments] * len(self.workers))

    def _call(self, method: str, calls: Sequence[Sequence[Any]]) -> list[Any]:
        """Call every shard at once, wait for all, and raise the first failure."""
        try:
            for worker, arguments in zip(self.workers, calls, strict=True):
                worker.begin(method, arguments)
            answers = [self._answer(s, method, arguments) for s, arguments in enumerate(calls)]
        except BaseException:  # interrupted: answers are on their way that nobody waits for, so all are rebuilt
            self.close()
            raise
        for answer in answers:
            if isinstance(answer, Failure):
                raise answer.error
        return answers

    def _answer(self, shard: int, method: str, arguments: Sequence[Any]) -> Any:
        for life in range(LIVES):
            try:
                if life:
                    self._rebuild(shard)
                    self.workers[shard].begin(method, arguments)
                return self.workers[shard].finish()
            except WorkerDiedError as death:
                _log.warning("executor %s: shard %d %s; rebuilding it", self.executor, shard, death)
        raise ExecutorError(
            f"executor {self.executor}: shard {shard} ({len(self._fresh[shard])} of {len(self)} experts) died "
            f"{LIVES} times in one call (out of memory?); start again from the last checkpoint, with more shards or "
            "another executor"
        )

    def _rebuild(self, shard: int) -> None:
        self.workers[shard].close()
        self.workers[shard] = self._open(self._fresh[shard])
        self.rebuilt += 1
        if self._barrier:
            mine = [run.of(slice(shard, None, len(self.workers))) for run in self._runs]
            self.workers[shard].begin("rebuild", (self._barrier[shard], mine))
            answer = self.workers[shard].finish()
            if isinstance(answer, Failure):
                raise answer.error

    def _set_barrier(self) -> None:
        self._barrier = self._call_all("snapshot")
        self._runs, self._bytes = [], 0
        # So that taking barriers costs at most as much as handing out the runs.
        self._limit = max(JOURNAL_BYTES, sum(a.nbytes for arrays, _ in self._barrier for a in arrays.values()))
