"""How `replay`, `run` and `demo` begin: logs set up, and one record of every setting that decides what happens."""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Sequence
from typing import Any

from stream_moe import __version__

PACKAGES = ("numpy", "numba", "torch")  # on whose versions digits of a result may depend
_log = logging.getLogger(__name__)


def start_logs(quiet: bool, json_logs: bool, secrets: Sequence[str] = ()) -> None:
    """Send logs to stderr, warnings and errors alone where `quiet`."""
    from stream_moe.telemetry.logs import setup_logging

    setup_logging("WARNING" if quiet else "INFO", json=json_logs, secrets=secrets)


def forbid_core_dumps() -> None:
    """Have a crash leave no file of what is in memory, which holds passwords and records."""
    try:
        import resource
    except ImportError:  # a system without them
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def log_settings(command: str, settings: dict[str, Any]) -> None:
    """Log what a command runs with, what is empty or off left out; secrets are masked by the formatter."""
    given = {name: value for name, value in settings.items() if value is not False and value not in (None, "", [])}
    about: dict[str, Any] = {"version": __version__, "python": platform.python_version()}
    about |= {name: found for name in PACKAGES if (found := _version(name))} | {"cores": os.cpu_count()}
    _log.info("settings", extra={"fields": {"command": command} | given | about})
    from stream_moe.runtime.compiled import is_cold

    if is_cold():
        _log.info("compiling the experts, once on this machine: some 15 seconds")


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
