"""Names of what belongs to one partition of one topic in one group: no two of them share one."""

from __future__ import annotations

import hashlib
import re

_OTHER = re.compile(rb"[^A-Za-z0-9._-]")
_LONGEST = 200  # bytes of a name; file systems take 255, and temporary files have longer ones


def writer_name(group: str, topic: str, partition: int) -> str:
    """Name the one writer of a partition: the transactional id.

    Group `a` with topic `b-c` and group `a-b` with topic `c` would have one writer, and fence each other, if the
    three were only joined. So where a topic has a dash, the length of the group's name follows. All ids of a group
    and a topic begin with ``<group>-<topic>-``, as access lists have it.

    Examples
    --------
    >>> writer_name("stream-moe", "events", 0), writer_name("a", "b-c", 0), writer_name("a-b", "c", 0)
    ('stream-moe-events-0', 'a-b-c-0~1', 'a-b-c-0')
    """
    return former_name(group, topic, partition) + (f"~{len(group)}" if "-" in topic else "")


def folder_name(group: str, topic: str, partition: int) -> str:
    """Name the folder of a partition's checkpoints: the writer's name, as one name of a file on any system.

    Examples
    --------
    >>> folder_name("stream-moe", "events", 0), folder_name("../../x", "events", 0)
    ('stream-moe-events-0', '..~2F..~2Fx-events-0')
    """
    name = former_name(_escaped(group), _escaped(topic), partition) + (f"~{len(group)}" if "-" in topic else "")
    if len(name) <= _LONGEST:
        return name
    digest = hashlib.sha256(f"{group}\0{topic}".encode()).hexdigest()
    return f"{name[:40]}~~{digest[:40]}-{partition}"


def _escaped(name: str) -> str:
    return _OTHER.sub(lambda found: b"~%02X" % found[0][0], name.encode()).decode()


def former_name(group: str, topic: str, partition: int) -> str:
    """Name what earlier versions called both; their folders are still found.

    Examples
    --------
    >>> former_name("a", "b-c", 0)
    'a-b-c-0'
    """
    return f"{group}-{topic}-{partition}"
