"""A daemon in a process that is forked from one in which everything is imported: ready in a tenth of the time."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# What costs seconds to import. The processes are forked from one that has no thread but its first.
PRELOADED = ["stream_moe.cli", "stream_moe.models.catalogue", "stream_moe.engine.loop", "stream_moe.telemetry.http"]
PRELOADED += ["connectors.kafka", "connectors.objects", "connectors.memory", "tests.faults.rows", "pytest"]


@dataclass(frozen=True, slots=True)
class Conditions:
    """What is not as usual for a daemon.

    Attributes
    ----------
    environment
        Variables to set.
    session
        Seconds that the group waits for a member that is gone.
    commit
        Seconds that the watchdog gives a commit.
    file_bytes
        The largest file that it may write; None = as this process.
    clock
        What its wall clock jumps by, each second.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    session: float = 2.5
    commit: float = 45.0
    file_bytes: int | None = None
    clock: float = 0.0


def start(arguments: Sequence[str], log: Path, conditions: Conditions) -> Any:
    """Run `stream-moe ARGUMENTS` in a process of its own, with all it prints in `log`."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_work, args=(list(arguments), log, conditions))
    process.start()
    return process


def _work(arguments: list[str], log: Path, conditions: Conditions) -> None:
    descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    faulthandler.register(signal.SIGUSR1)  # a daemon that hangs says where
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests themselves may run under nohup
    os.environ.update(conditions.environment)
    if (size := conditions.file_bytes) is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    if conditions.clock:
        right, begin = time.time, time.monotonic()
        time.time = lambda: right() + conditions.clock * int(time.monotonic() - begin)
    from connectors.kafka import source, writer
    from stream_moe.cli import main

    source.METADATA_SECONDS, source.SESSION_SECONDS = 1.0, conditions.session
    writer.COMMIT_SECONDS = conditions.commit
    sys.argv = ["stream-moe", *arguments]
    main()
