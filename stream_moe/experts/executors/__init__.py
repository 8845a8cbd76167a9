"""Executors of the experts: threads of this process, processes that share memory with it, or actors of Ray.

The router is constant inside a run of events and no expert reads another's state, so one scatter and one gather per
run give what the serial loop gives: predictions and state are equal, bit for bit, in every executor, and a checkpoint
made in one is restored in any other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from stream_moe.errors import ConfigError
from stream_moe.experts.base import Expert, ExpertFacts
from stream_moe.experts.pool import ExpertPool
from stream_moe.snapshot import Snapshot
from stream_moe.types import Bool, Float32, Float64, Int32, Schema

if TYPE_CHECKING:
    from stream_moe.runtime.threads import Task, WorkerThreads

Executor = Literal["threads", "processes", "ray"]
MOST_SHARDS = 1024


class Pool(Protocol):
    """E experts in their executor. See `stream_moe.experts.pool.ExpertPool`, that in threads, for the arrays."""

    def __len__(self) -> int: ...

    @property
    def kinds(self) -> list[str]: ...

    def step(
        self, x: Float32, y: Int32, weight: Float64, active: Bool | None = None, *, beside: Task | None = None
    ) -> Float64: ...

    def predict(self, x: Float32, active: Bool | None = None) -> Float64: ...

    def add(self, experts: Sequence[Expert]) -> None: ...

    def grow(self, schema: Schema) -> None: ...

    def snapshot(self) -> Snapshot: ...

    def restore(self, snapshot: Snapshot) -> None: ...

    def facts(self) -> list[ExpertFacts]: ...


def check_executor(executor: str, shards: int, threads: int) -> None:
    """Raise ConfigError for an executor that does not exist, is not installed, or that these numbers do not fit."""
    if executor not in get_args(Executor):
        raise ConfigError(f"executor: {executor!r}; choose one of {', '.join(get_args(Executor))}")
    if not 0 <= shards <= MOST_SHARDS:
        raise ConfigError(f"shards: {shards} must lie in 1..{MOST_SHARDS}, or be 0: one for each core")
    if executor == "threads" and shards:
        raise ConfigError(f"shards: {shards}, but threads share all experts; give executor=processes or executor=ray")
    if executor != "threads" and threads > 1:
        raise ConfigError(f"threads: {threads}, but executor={executor} has one in each shard; give shards instead")
    if executor == "ray":
        from stream_moe.experts.executors.cluster import check_installed

        check_installed()


def open_pool(experts: Sequence[Expert], workers: WorkerThreads, executor: Executor, shards: int) -> Pool:
    """Bring new experts to their executor.

    Parameters
    ----------
    experts
        Which have learnt nothing yet.
    workers
        The threads of executor "threads".
    executor
        "threads", "processes" or "ray".
    shards
        Processes or actors, among which the experts are dealt like cards; 0 = as many as there are cores.

    Raises
    ------
    ExecutorError
        If a process or actor does not come up.
    ConfigError
        If there is no Ray cluster.

    Examples
    --------
    >>> from stream_moe.runtime.threads import WorkerThreads
    >>> from stream_moe.experts.no_change import NoChange
    >>> schema = Schema.numeric(2, ["no", "yes"])
    >>> open_pool([NoChange(schema), NoChange(schema)], WorkerThreads(1), "threads", 0).kinds
    ['no-change', 'no-change']
    """
    if executor == "processes":
        from stream_moe.experts.executors.processes import ProcessPool

        return ProcessPool(experts, shards or os.cpu_count() or 1)
    if executor == "ray":
        from stream_moe.experts.executors.actors import ActorPool
        from stream_moe.experts.executors.cluster import connect, cores

        connect()
        return ActorPool(experts, shards or cores())
    return ExpertPool(experts, workers=workers)
