"""How much memory this process has, and how much it may have; known on Linux only."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path

_PROC, _CGROUP = Path("/proc"), Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # version 1 says "none" as a number near 2**63, rounded down to a page


def resident_memory(proc: Path = _PROC) -> int:
    """Return the resident memory of this process, bytes; the peak where the present one is not known.

    Examples
    --------
    >>> resident_memory() > 1_000_000
    True
    """
    try:
        return int((proc / "self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def memory_limit(proc: Path = _PROC, cgroup: Path = _CGROUP) -> int:
    """Return how many bytes this process may have: the least of the machine's memory and its control groups' limits.

    Source: the kernel's cgroup-v1/memory (`memory.limit_in_bytes`) and cgroup-v2 (`memory.max`), of the process's own
    group and of every one above it.

    Examples
    --------
    >>> memory_limit() > 100_000_000
    True
    """
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([machine, *_limits(proc, cgroup)])


def _limits(proc: Path, cgroup: Path) -> Iterator[int]:
    try:
        lines = (proc / "self/cgroup").read_text().splitlines()
    except OSError:
        lines = []
    # A container often sees its own group as the root of the mount, while the path is the one on the machine.
    places = [(cgroup, "memory.max", ""), (cgroup / "memory", "memory.limit_in_bytes", "")]
    for line in lines:
        number, controllers, path = [*line.split(":", 2), "", ""][:3]
        if number == "0" and not controllers:
            places.append((cgroup, "memory.max", path))
        elif "memory" in controllers.split(","):
            places.append((cgroup / "memory", "memory.limit_in_bytes", path))
    for mount, name, path in places:
        steps = [step for step in path.split("/") if step not in ("", "..")]
        for depth in range(len(steps) + 1):
            try:
                limit = int((mount / "/".join(steps[:depth]) / name).read_text())
            except (OSError, ValueError):  # no such file, or "max"
                continue
            if 0 < limit < _NO_LIMIT:
                yield limit
