"""The Ray cluster that this process works with: one that is there, never one that we start."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from typing import Any

from stream_moe.errors import ConfigError, one_line

INSTALL = "pip install 'stream-moe[ray]'"
WAY_OUT = "start one with `ray start --head`, or name one with RAY_ADDRESS=HOST:PORT"
SECONDS = 5.0  # for a host to take a connection


def check_installed() -> None:
    """Raise ConfigError where Ray is not; loads nothing."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"Ray is not installed: {INSTALL}")


def connect() -> Any:
    """Join the cluster of RAY_ADDRESS, or else the one of this machine; return the module `ray`.

    Raises
    ------
    ConfigError
        If Ray is not installed, or there is no cluster there.
    """
    check_installed()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    import ray

    if ray.is_initialized():
        return ray
    address = os.environ.get("RAY_ADDRESS") or "auto"
    _look(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"no Ray cluster at {address!r} ({one_line(error)[:120]}): {WAY_OUT}") from None
    return ray


def cores() -> int:
    """CPUs of the cluster."""
    return max(1, int(connect().cluster_resources().get("CPU", 1)))


def _look(address: str) -> None:
    """Raise ConfigError where nobody listens: Ray itself would try for a minute, and end the process."""
    host, _, port = address.rpartition(":")
    if "/" in address or not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"no Ray cluster at {address!r} ({one_line(error)}): {WAY_OUT}") from None
