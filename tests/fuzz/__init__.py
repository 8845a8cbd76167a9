"""Fuzzing of what reads bytes from outside: the record decoder and the checkpoint reader."""

from __future__ import annotations

import faulthandler
import logging
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

DEADLINE = 1.0  # seconds of CPU per input; the slowest of three million took 0.4, on a busy machine
HANG = 60.0  # seconds after which code that never comes back ends the process, with a traceback
GROWTH = 64 << 20  # bytes of memory; one run's allocator noise is about a tenth of that
FIRST = 100  # inputs among which kernels may be compiled, which takes longer than any input
WARM = 20_000  # inputs before memory is first looked at


def rss() -> int:
    """Resident memory of this process in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Fuzz:
    """Gives inputs to a target and keeps count."""

    def __init__(self, target: str, seed: int) -> None:
        from tests.fuzz import inputs, targets

        logging.disable()
        faulthandler.enable()
        make = random.Random(seed)
        self.target, self.seed, self.inputs = target, seed, 0
        self._check: Any = targets.Codec() if target == "codec" else targets.CheckpointReader()
        self._make: Any = inputs.records(make) if target == "codec" else inputs.checkpoints(make)
        self.seen: Counter[str] = Counter()
        self._slowest, self._rss, self._start = 0.0, 0, time.perf_counter()

    def run(self, count: int) -> None:
        for _ in range(count):
            self.take(self._make())

    def take(self, content: bytes | None) -> None:
        """Check one input; an AssertionError, or whatever was not to be raised, leaves it in a file."""
        if self.inputs % 256 == 0:
            faulthandler.dump_traceback_later(HANG, exit=True)
        if self.inputs == WARM:
            self._rss = rss()
        before = time.thread_time()
        try:
            self.seen[self._check(content)] += 1
            took = time.thread_time() - before
            assert took < DEADLINE or self.inputs < FIRST, f"{took:.2f} s for one input"
        except BaseException:
            faulthandler.cancel_dump_traceback_later()  # or it ends whoever caught this, a minute later
            Path("fuzz-finding.bin").write_bytes(content or b"")
            print(f"input {self.inputs} of seed {self.seed}, kept in fuzz-finding.bin: {(content or b'')[:200]!r}")
            raise
        self._slowest = max(self._slowest, took)
        self.inputs += 1

    def finish(self) -> int:
        """Print the counts; 1 when memory grew."""
        faulthandler.cancel_dump_traceback_later()
        seconds, grown = time.perf_counter() - self._start, rss() - self._rss if self._rss else 0
        print(f"{self.target}: {self.inputs:,} inputs of seed {self.seed} in {seconds:.0f} s, no crash, no hang")
        print("  " + ", ".join(f"{name} {count:,}" for name, count in self.seen.most_common()))
        print(f"  the slowest took {1000 * self._slowest:.1f} ms")
        if self._rss:
            print(f"  memory after {WARM:,} inputs {self._rss >> 20} MiB, at the end {rss() >> 20} MiB")
        return int(grown > GROWTH)
