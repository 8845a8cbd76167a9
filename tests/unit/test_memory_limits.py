"""Memory that a process has and may have, by files laid out as the kernel does."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from stream_moe.telemetry.memory import memory_limit, resident_memory


def test_resident_memory_follows_what_is_taken() -> None:
    before = resident_memory()
    with mmap.mmap(-1, 40 << 20) as held:  # from the system: the heap may have room that is resident already
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        assert 30 << 20 < resident_memory() - before < 80 << 20


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("0::/pod/one", "pod/memory.max"),  # of the group above
        ("0::/pod/one", "pod/one/memory.max"),
        ("0::/seen/from/outside", "memory.max"),  # a container sees its own group as the root
        ("5:cpu,memory:/docker/abc", "memory/docker/abc/memory.limit_in_bytes"),
        ("5:memory:/docker/abc", "memory/memory.limit_in_bytes"),
    ],
)
def test_the_least_limit_of_both_versions_counts(tmp_path: Path, line: str, file: str) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text(f"7:freezer:/\n{line}\n")
    found = tmp_path / "cgroup" / file
    found.parent.mkdir(parents=True)
    machine = memory_limit(tmp_path / "nowhere", tmp_path / "nowhere")
    for content, expected in (("max\n", machine), (f"{2**63 - 4096}\n", machine), ("64000000\n", 64_000_000)):
        found.write_text(content)
        assert memory_limit(tmp_path / "proc", tmp_path / "cgroup") == expected
