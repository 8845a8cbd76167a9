"""A line on stderr while something takes longer than a second, so that nobody wonders whether it hangs."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SECONDS = 1.0
_log = logging.getLogger(__name__)


@contextmanager
def said_if_slow(what: str, seconds: float = SECONDS) -> Iterator[None]:
    """Log what is being done once it has taken so many seconds, and nothing where it is done sooner.

    Parameters
    ----------
    what
        A sentence without its end, as "reading a.csv".

    Examples
    --------
    >>> with said_if_slow("adding one and one"):
    ...     1 + 1
    2
    """
    timer = threading.Timer(seconds, _log.info, (f"{what}: this takes longer than {seconds:g} s",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
