"""Threads that help the calling one with work that leaves the interpreter: experts, rows, matrix products."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from stream_moe.runtime.compiled import compiled
from stream_moe.types import Int64

Task = Callable[[], object]

# Looks at a flag before a thread lies down, some 100 us: it takes 40 us to wake it again, more than the pauses
# inside a mini-batch last, and what is handed over there is 100 to 400 us of work.
LOOKS = 400_000
# Looks between seeing the flag and asking for the interpreter, some 10 us: whoever gave it holds the interpreter
# until its own work is under way, and a thread that finds it taken is sent to sleep after all.
PATIENCE = 40_000


class WorkerThreads:
    """A few threads, asleep between calls.

    The tasks of one call must not depend on each other: then a result does not depend on how many threads there are.
    A mini-batch hands tasks over four times, so a thread that waits looks out for a while before it sleeps.

    Parameters
    ----------
    threads
        With the calling one; 1 = everything runs in the caller.

    Examples
    --------
    >>> found = []
    >>> WorkerThreads(2).each([lambda: found.append(1), lambda: found.append(2)])
    >>> sorted(found)
    [1, 2]
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._helpers = [_Helper() for _ in range(threads - 1)]
        for helper in self._helpers:
            threading.Thread(target=helper.serve, name="workers", daemon=True).start()
            weakref.finalize(self, helper.dismiss)

    def each(self, tasks: Iterable[Task]) -> None:
        """Run all tasks, whoever is free taking the next, and raise the first failure."""
        if not self._helpers:
            for task in tasks:
                task()
            return
        waiting = iter(list(tasks))  # whose `next` is one step under the interpreter's lock
        for helper in self._helpers:
            helper.begin(waiting)
        failures = []
        try:
            _work(waiting)
        except BaseException as error:  # the others must be done with the caller's arrays before it is raised
            failures.append(error)
        failures += [failure for helper in self._helpers if (failure := helper.finish()) is not None]
        if failures:
            raise failures[0]


class _Helper:
    """One of the threads and its task: it holds no reference to the `WorkerThreads`, so they may be collected."""

    def __init__(self) -> None:
        self._go, self._done = _Signal(), _Signal()
        self._waiting: Iterator[Task] | None = None
        self._failure: BaseException | None = None

    def begin(self, waiting: Iterator[Task]) -> None:
        self._waiting, self._failure = waiting, None
        self._go.give()

    def finish(self) -> BaseException | None:
        self._done.take()
        return self._failure

    def dismiss(self) -> None:
        self._waiting = None
        self._go.give()

    def serve(self) -> None:
        while True:
            self._go.take()
            if self._waiting is None:
                return
            try:
                _work(self._waiting)
            except BaseException as error:
                self._failure = error
            self._done.give()


class _Signal:
    """Given by one thread, taken by another, in turn."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self._given = np.zeros(1, np.int64)
        self._taken = 0

    def give(self) -> None:
        self._given[0] += 1
        self._lock.release()

    def take(self) -> None:
        look_out(self._given, self._taken, LOOKS)
        self._lock.acquire()  # whether it was seen or not: then this waits as long as it takes
        self._taken += 1


@compiled
def look_out(given: Int64, taken: int, looks: int) -> None:
    """Return soon after `given` is no longer `taken`, or after so many looks; the interpreter is free meanwhile."""
    while looks > 0 and shared(given) == taken:
        looks -= 1
    polite = PATIENCE
    while looks > 0 and polite > 0 and shared(given) >= 0:
        polite -= 1


@intrinsic
def shared(context: Any, array: Any) -> Any:
    """Read array[0] (int64), which another thread may write at any time."""

    def read(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.load_atomic(_first(context, builder, signature, arguments), ordering="acquire", align=8)

    return types.int64(array), read


@intrinsic
def take_number(context: Any, array: Any) -> Any:
    """Read array[0] (int64) and add 1 to it, as one step: no two threads get the same number."""

    def take(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("add", _first(context, builder, signature, arguments), one, "monotonic")

    return types.int64(array), take


def _first(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    return context.make_array(signature.args[0])(context, builder, arguments[0]).data


def _work(waiting: Iterator[Task]) -> None:
    for task in waiting:
        task()
