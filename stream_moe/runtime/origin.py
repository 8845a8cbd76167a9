"""Where code may come from: never from the folder that a process happens to stand in, as data lies there."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from stream_moe.errors import ConfigError

SAFE = "PYTHONSAFEPATH"  # an interpreter that finds this set looks for no module where it stands
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def leave_working_directory() -> None:
    """Look for modules no more where this process stands, nor let processes that it starts.

    `python -m` and `python -c` put that folder before all others, so that a `typer.py` beside a data file would be
    taken for the library. It stays where this package itself lies there: a checkout that is not installed.
    """
    os.environ[SAFE] = "1"
    try:
        here = os.getcwd()
    except FileNotFoundError:  # deleted under us
        here = ""
    if here == _ROOT:
        known = os.environ.get("PYTHONPATH")
        if known is None or _ROOT not in known.split(os.pathsep):  # for those that we start
            os.environ["PYTHONPATH"] = _ROOT + (os.pathsep + known if known else "")
    elif not sys.flags.safe_path and sys.path and sys.path[0] in ("", here):
        del sys.path[0]


@contextmanager
def safe_start() -> Iterator[None]:
    """Let processes that are started meanwhile look for no modules in the working directory.

    A process that multiprocessing spawns begins as `python -c`; it takes over our own module path afterwards.

    Examples
    --------
    >>> with safe_start():
    ...     os.environ[SAFE]
    '1'
    """
    before = os.environ.get(SAFE)
    os.environ[SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE]
        else:
            os.environ[SAFE] = before


def check_connectors() -> None:
    """Raise ConfigError unless the package `connectors` is the one beside this package.

    Anything on the module path may bear that name; what bears it there would be run with the credentials of Kafka.
    """
    found = importlib.util.find_spec("connectors")
    origin, ours = (found.origin if found else None), os.path.join(_ROOT, "connectors", "__init__.py")
    if origin is None or not os.path.samefile(origin, ours):
        where = origin or (list(found.submodule_search_locations or []) if found else None)
        raise ConfigError(
            f"the package connectors is not ours: found {where}, not {ours}; rename that, or take its folder "
            "off the module path (PYTHONPATH)"
        )
