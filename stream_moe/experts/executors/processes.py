"""The executor in processes: a run goes into memory that all of them share; a message to each says where it lies."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sys
import weakref
from collections.abc import Iterator, Sequence
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import ExecutorError, one_line
from stream_moe.experts.base import Expert
from stream_moe.experts.executors.shard import Run, Shard
from stream_moe.experts.executors.sharded import ShardedPool, WorkerDiedError
from stream_moe.runtime.origin import safe_start
from stream_moe.types import Float64

ALIGNMENT, LEAST = 64, 2**16
PATIENCE = 5.0  # seconds for a process to leave by itself
DEVICE = "/dev/shm"  # noqa: S108 - where Linux has shared memory, often small in a container


class Place(NamedTuple):
    """Where an array lies in the shared memory."""

    offset: int
    shape: tuple[int, ...]
    dtype: str

    def view(self, memory: SharedMemory) -> np.ndarray[Any, Any]:
        return np.ndarray(self.shape, self.dtype, memory.buf, self.offset)


class ProcessPool(ShardedPool):
    """Experts in processes of this machine, one core each.

    The processes are spawned, so a script that makes such a pool needs `if __name__ == "__main__":` around what it
    runs. A process ends with the pool, and when this process dies, however it does.
    """

    executor = "processes"

    def __init__(self, experts: Sequence[Expert], shards: int) -> None:
        self._memory: SharedMemory | None = None
        self._answers = list[Place]()
        super().__init__(experts, shards)

    def _open(self, experts: Sequence[Expert]) -> Process:
        worker = Process(experts)
        weakref.finalize(self, worker.close)
        return worker

    def _scatter(self, run: Run, n_classes: int) -> tuple[str, list[Sequence[Any]]]:
        shards = len(self.workers)
        parts = [run.of(slice(s, None, shards)) for s in range(shards)]
        shapes = [(len(fresh), len(run.x), n_classes) for fresh in self._fresh]
        places, self._answers, end = [], [], 0
        copied = dict[int, Place]()  # x, and labels that all share, lie there once
        arrays = list[tuple[Place, np.ndarray[Any, Any]]]()
        for part, shape in zip(parts, shapes, strict=True):
            mine = list[Place | None]()
            for array in part:
                if array is not None and id(array) not in copied:
                    place = Place(end, array.shape, array.dtype.str)
                    end = _after(place, array.nbytes)
                    arrays.append((place, array))
                    copied[id(array)] = place
                mine.append(None if array is None else copied[id(array)])
            answer = Place(end, shape, "<f8")
            end = _after(answer, 8 * int(np.prod(shape)))
            self._answers.append(answer)
            places.append((mine, answer))
        memory = self._memory_of(end)
        for place, array in arrays:
            place.view(memory)[...] = array
        return "step_shared", [(memory.name, mine, answer) for mine, answer in places]

    def _gathered(self, shard: int, answer: Any) -> Float64:
        assert self._memory is not None
        return self._answers[shard].view(self._memory)

    def _memory_of(self, size: int) -> SharedMemory:
        """Shared memory of at least so many bytes; a larger one takes the place of the one before."""
        if self._memory is not None and self._memory.size >= size:
            return self._memory
        # To write beyond it would end the process, not raise.
        free = shutil.disk_usage(DEVICE).free if Path(DEVICE).is_dir() else sys.maxsize
        size = max(size if 2 * size > free else 2 * size, LEAST)
        if size > free:
            raise ExecutorError(
                f"executor processes: one run takes {size:,} bytes of shared memory, {DEVICE} has {free:,}; make "
                "it larger (docker run --shm-size), or give a smaller mini-batch or executor=threads"
            )
        memory = SharedMemory(create=True, size=size)
        weakref.finalize(self, _discard, memory)
        if self._memory is not None:
            _discard(self._memory)
        self._memory = memory
        return memory


class Process:
    """The process of one shard, and this end of the pipe to it."""

    def __init__(self, experts: Sequence[Expert]) -> None:
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, experts), name="experts", daemon=True)
        try:
            with safe_start():
                self.process.start()
        except Exception as error:  # of any class: an expert of a class that only this script knows, say
            raise ExecutorError(f"executor processes: {one_line(error)[:160]}; use executor=threads") from None
        finally:
            theirs.close()  # or its death would not show

    @property
    def pid(self) -> int:
        return self.process.pid or 0

    def begin(self, method: str, arguments: Sequence[Any]) -> None:
        with contextlib.suppress(OSError):  # it is dead, which `finish` reports
            self._pipe.send((method, arguments))

    def finish(self) -> Any:
        try:
            return self._pipe.recv()
        except (EOFError, OSError):
            self.process.join(PATIENCE)
            raise WorkerDiedError(f"(process {self.pid}) ended with code {self.process.exitcode}") from None

    def close(self) -> None:
        self._pipe.close()
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class SharedShard(Shard):
    """A shard that finds its runs in shared memory."""

    _memory: SharedMemory | None = None

    def step_shared(self, name: str, places: Sequence[Place | None], answer: Place) -> None:
        """Test then train through the run that lies there, and leave the predictions there."""
        if self._memory is None or self._memory.name != name:
            if self._memory is not None:
                self._memory.close()
            self._memory = SharedMemory(name)
        memory = self._memory
        run = Run(*(None if place is None else place.view(memory) for place in places))  # type: ignore[arg-type]
        self.pass_through(run, answer.view(memory))


def serve(pipe: Connection, experts: Sequence[Expert]) -> None:
    """Answer the calls that come through the pipe, until its other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the pool ends us
    shard = SharedShard(experts)
    for method, arguments in _messages(pipe):
        answer = shard.call(method, *arguments)
        try:
            pipe.send(answer)
        except OSError:
            return


def _messages(pipe: Connection) -> Iterator[tuple[str, Sequence[Any]]]:
    while True:
        try:
            yield pipe.recv()
        except (EOFError, OSError):
            return


def _after(place: Place, nbytes: int) -> int:
    return -(-(place.offset + nbytes) // ALIGNMENT) * ALIGNMENT


def _discard(memory: SharedMemory) -> None:
    try:
        memory.close()
        memory.unlink()
    except (BufferError, FileNotFoundError):
        pass  # somebody still looks at it, or it is gone
