"""Threads that help the calling one with work that leaves the interpreter: experts, rows, matrix products."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator

import torch

Task = Callable[[], object]


class Crew:
    """A few threads, asleep between calls.

    What they are given in one call must not depend on each other: then a result does not depend on how many
    threads there are. Handing over costs two locks, about 10 us, a third of what an executor's futures take; a
    mini-batch hands over three times.

    Parameters
    ----------
    threads
        With the calling one; 1 = everything runs in the caller.

    Examples
    --------
    >>> found = []
    >>> Crew(2).each([lambda: found.append(1), lambda: found.append(2)])
    >>> sorted(found)
    [1, 2]
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._seats = [_Seat() for _ in range(threads - 1)]
        for seat in self._seats:
            threading.Thread(target=seat.serve, name="crew", daemon=True).start()
            weakref.finalize(self, seat.dismiss)

    def each(self, tasks: Iterable[Task]) -> None:
        """Run all tasks, whoever is free taking the next, and raise the first failure."""
        waiting = iter(list(tasks))  # whose `next` is one step under the interpreter's lock
        for seat in self._seats:
            seat.begin(waiting)
        failures = []
        try:
            _work(waiting)
        except BaseException as error:  # the others must be done with the caller's arrays before it is told
            failures.append(error)
        failures += [failure for seat in self._seats if (failure := seat.finish()) is not None]
        if failures:
            raise failures[0]


class _Seat:
    """Where one helping thread waits: it holds no reference to its crew, which may so be collected."""

    def __init__(self) -> None:
        self._go, self._done = threading.Lock(), threading.Lock()
        self._go.acquire()
        self._done.acquire()
        self._waiting: Iterator[Task] | None = None
        self._failure: BaseException | None = None

    def begin(self, waiting: Iterator[Task]) -> None:
        self._waiting, self._failure = waiting, None
        self._go.release()

    def finish(self) -> BaseException | None:
        self._done.acquire()
        return self._failure

    def dismiss(self) -> None:
        self._waiting = None
        self._go.release()

    def serve(self) -> None:
        torch.set_num_threads(1)  # of this thread: how torch splits a sum would change the sum's bits
        while True:
            self._go.acquire()
            if self._waiting is None:
                return
            try:
                _work(self._waiting)
            except BaseException as error:
                self._failure = error
            self._done.release()


def _work(waiting: Iterator[Task]) -> None:
    for task in waiting:
        task()
