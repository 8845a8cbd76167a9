"""What SIGTERM and SIGINT do to a daemon: before it begins, while it works, and when they come again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_KINDS = (signal.SIGTERM, signal.SIGINT)


def end_at_the_start() -> None:
    """Let SIGTERM end the process at once with exit code 0: nothing was read or joined yet that were to be drained.

    From `stop_on_signals` on it asks the engine.
    """
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, frame: object) -> None:
    # Not an exception, which would come up somewhere in an import or a compilation, and might be caught there.
    print(f"stream-moe: {signal.Signals(number).name} at the start: nothing was read yet, ended", file=sys.stderr)
    sys.stderr.flush()
    os._exit(0)


@contextmanager
def stop_on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM or SIGINT asks the engine to drain; a second one is obeyed at once."""

    def first(number: int, frame: object) -> None:
        # Not typer's echo, which goes past the live view that stands in for stderr.
        print(f"stream-moe: {signal.Signals(number).name}: finishing the block", file=sys.stderr)
        for kind, handler in former.items():
            signal.signal(kind, signal.SIG_DFL if handler is _end else handler)
        stop()

    former = {kind: signal.signal(kind, first) for kind in _KINDS}
    try:
        yield
    finally:
        for kind, handler in former.items():
            signal.signal(kind, signal.SIG_DFL if handler is _end else handler)
