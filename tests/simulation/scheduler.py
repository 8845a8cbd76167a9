"""Threads that take turns: one runs at a time, which one is a seeded choice, and any may die at any step.

The engine is ordinary blocking code, so each actor is a real thread; but it runs only while it holds the baton, and
it gives the baton back wherever the simulated world calls `step`. A schedule is thus the same each time that its seed
is the same, whatever the machine does.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

SECONDS = 0.02  # of simulated time that a step takes


class KilledError(BaseException):
    """Unwinds the threads of a process that is dead. Whatever they still try raises it again."""


class Process:
    """Some actors that live and die together."""

    def __init__(self) -> None:
        self.dead = False
        self.sleeps_until = 0  # the step at which a stopped process goes on


class Actor:
    """A thread that runs while it has the baton."""

    def __init__(self, process: Process, work: Callable[[], None], back: threading.Lock) -> None:
        self.process = process
        self.place = "start"  # the step that it stands at
        self.finished = False
        self.error: BaseException | None = None
        self._work, self._back = work, back
        self._go = threading.Lock()
        self._go.acquire()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        self._go.acquire()
        try:
            if not self.process.dead:
                self._work()
        except KilledError:
            pass
        except BaseException as error:
            self.error = error
        self.finished = True
        self._back.release()

    def resume(self) -> None:
        """Run to the next step, or to the end; called by the scheduler."""
        self._go.release()
        self._back.acquire()

    def step(self, place: str) -> None:
        """Give the baton back until it comes again; called by the actor."""
        if not self.process.dead:
            self.place = place
            self._back.release()
            self._go.acquire()
        if self.process.dead:
            raise KilledError


class Scheduler:
    """Hands the baton round, and keeps the simulated time.

    Parameters
    ----------
    chance
        Decides who runs next.

    Attributes
    ----------
    steps
        That were made so far.
    now
        Seconds of simulated time.
    deaths
        Processes killed, by the step at which one of their threads stood.
    trap
        Name of a step: the next process that comes to it is killed there.
    """

    def __init__(self, chance: random.Random) -> None:
        self.steps = 0
        self.now = 1_000.0
        self.deaths: Counter[str] = Counter()
        self.trap = ""
        self._chance = chance
        self._actors: list[Actor] = []
        self._running: Actor | None = None
        self._back = threading.Lock()
        self._back.acquire()

    def spawn(self, process: Process, work: Callable[[], None]) -> Actor:
        """Start an actor; it runs when it is given the baton."""
        actor = Actor(process, work, self._back)
        self._actors.append(actor)
        return actor

    def step(self, place: str) -> None:
        """Called by the running actor: others may run now, and it may die here."""
        assert self._running is not None
        self._running.step(place)

    def turn(self) -> None:
        """Let one actor go on to its next step, if any is awake."""
        self.steps += 1
        self.now += SECONDS
        if ready := [actor for actor in self._actors if actor.process.sleeps_until <= self.steps]:
            actor = self._chance.choice(ready)
            self._resume(actor)
            if actor.place == self.trap and not actor.finished:
                self.trap = ""
                self.kill(actor)

    def kill(self, victim: Actor) -> None:
        """End the actor's process where it stands, as kill -9 does."""
        victim.process.dead = True
        self.deaths[victim.place] += 1
        for actor in [actor for actor in self._actors if actor.process is victim.process]:
            self._resume(actor)

    def end(self) -> None:
        """Kill whatever still runs."""
        while self._actors:
            self.kill(self._actors[0])

    def _resume(self, actor: Actor) -> None:
        self._running = actor
        actor.resume()
        self._running = None
        if actor.finished:
            self._actors.remove(actor)

    # What the engine's modules see in place of `time` and `threading`.

    def monotonic(self) -> float:
        return self.now

    time = perf_counter = monotonic

    def Thread(self, target: Callable[..., None], args: tuple[Any, ...] = (), name: str = "") -> Worker:  # noqa: N802
        assert self._running is not None
        return Worker(self, self._running.process, lambda: target(*args))


class Worker:
    """Stands for a `threading.Thread` of the engine."""

    def __init__(self, scheduler: Scheduler, process: Process, work: Callable[[], None]) -> None:
        self._scheduler, self._process, self._work = scheduler, process, work
        self._actor: Actor | None = None

    def start(self) -> None:
        self._actor = self._scheduler.spawn(self._process, self._work)

    def is_alive(self) -> bool:
        return self._actor is not None and not self._actor.finished

    def join(self) -> None:
        while self.is_alive():
            self._scheduler.step("waiting for a checkpoint")
