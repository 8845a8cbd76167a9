"""The executor in Ray: each shard an actor on some node of a cluster, runs and answers through Ray's object store."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from stream_moe.errors import ExecutorError, one_line
from stream_moe.experts.base import Expert
from stream_moe.experts.executors.shard import Run, Shard
from stream_moe.experts.executors.sharded import ShardedPool, WorkerDiedError
from stream_moe.types import Float64

PATIENCE = 60.0  # seconds for a node to take an actor


class ActorPool(ShardedPool):
    """Experts in actors, spread over the nodes of the cluster that this process is connected to.

    An actor asks for one CPU and no GPU, so that nodes with a GPU are left to the router, which lives where this
    process does.
    """

    executor = "ray"

    def _open(self, experts: Sequence[Expert]) -> Actor:
        worker = Actor(experts)
        weakref.finalize(self, worker.close)
        return worker

    def _scatter(self, run: Run, n_classes: int) -> tuple[str, list[Sequence[Any]]]:
        shards = len(self.workers)
        x = ray.put(run.x)  # into the store once, for all
        return "step", [(x, *run.of(slice(s, None, shards))[1:]) for s in range(shards)]

    def _gathered(self, shard: int, answer: Any) -> Float64:
        return answer


class ActorShard(Shard):
    """What runs in the actor: a shard that gets its own copy of what Ray hands out read-only.

    Experts learn in their arrays, and would be compiled once more for rows that they may not write to.
    """

    def __init__(self, experts: Sequence[Expert]) -> None:
        super().__init__(deepcopy(experts))

    def call(self, method: str, *arguments: Any) -> Any:
        return super().call(method, *deepcopy(arguments))

    def pid(self) -> int:
        return os.getpid()


# The pool rebuilds one that dies: it knows its state.
_remote: Any = ray.remote(num_cpus=1, num_gpus=0, max_restarts=0, scheduling_strategy="SPREAD")(ActorShard)


class Actor:
    """The actor of one shard."""

    def __init__(self, experts: Sequence[Expert]) -> None:
        self._actor = _remote.remote(experts)
        try:
            self.pid = int(ray.get(self._actor.pid.remote(), timeout=PATIENCE))
        except GetTimeoutError:
            self.close()
            raise ExecutorError(
                f"executor ray: no node of the cluster has taken a shard in {PATIENCE:.0f} s; give fewer shards than "
                "it has free CPUs (`ray status`), or add nodes"
            ) from None
        except RayError as error:
            self.close()
            raise ExecutorError(f"executor ray: an actor did not come up: {_last_line(error)}") from None

    def begin(self, method: str, arguments: Sequence[Any]) -> None:
        self._answer = self._actor.call.remote(method, *arguments)

    def finish(self) -> Any:
        try:
            return ray.get(self._answer)
        except RayTaskError as error:  # not of ours, which come back as values: an actor that cannot read its task
            raise ExecutorError(f"executor ray: {_last_line(error)}") from None
        except RayError as error:
            raise WorkerDiedError(f"is lost ({one_line(error)[:160]})") from None

    def close(self) -> None:
        if ray.is_initialized():  # or it is gone with its cluster
            ray.kill(self._actor)


def _last_line(error: RayError) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()
