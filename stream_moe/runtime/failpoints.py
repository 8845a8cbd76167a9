"""Named places at which a test lets the process die, stop or fail: the windows between the steps of the protocol.

Nothing happens unless the environment has `STREAM_MOE_FAIL_AT`, a comma-separated list of ``name[:n[:what]]``: at the
n-th time that the place is reached (default: the first), `what` happens: a signal to ourselves (KILL, the default,
STOP, TERM) or an error of the operating system (ENOSPC, EIO).
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter

VARIABLE = "STREAM_MOE_FAIL_AT"
_reached: Counter[str] = Counter()


def reach(name: str) -> None:
    """Say that a place was reached; OSError where the environment asks for one there."""
    wanted = os.environ.get(VARIABLE)
    if wanted is None:
        return
    _reached[name] += 1
    for one in wanted.split(","):
        place, at, what = (one + "::").split(":")[:3]
        if place == name and int(at or 1) == _reached[name]:
            if what.startswith("E"):
                raise OSError(getattr(errno, what), os.strerror(getattr(errno, what)))
            os.kill(os.getpid(), signal.Signals[f"SIG{what or 'KILL'}"])
