"""A log in memory, for tests and demonstrations: the engine's ports without a broker.

Items other than records say what shall happen at their place, so that a crash test reads like data:

>>> log = MemoryLog()
>>> log.extend("events", [b"a", b"b", PAUSE, b"c", ABORT, b"d", EOF])
>>> source = MemorySource(log, "events", "group")
>>> source.open()
>>> source.poll(10, 0.0), source.changes()
([], [Change(kind='assigned', partitions=frozenset({0}))])
>>> source.seek(0, 0)
>>> [batch.values for batch in source.poll(10, 0.0)], source.poll(10, 0.0)
([[b'a', b'b']], [])
>>> [batch.values for batch in source.poll(10, 0.0)]
[[b'c']]
>>> source.poll(10, 0.0)
Traceback (most recent call last):
    ...
connectors.memory.log.SimulatedCrashError: ABORT before offset 3 of 'events'/0
>>> [batch.values for batch in source.poll(10, 0.0)]
[[b'd']]
"""

from __future__ import annotations

from connectors.memory.log import (
    ABORT,
    CONTROL,
    CORRUPT,
    EOF,
    PAUSE,
    Item,
    Mark,
    MemoryLog,
    Record,
    SimulatedCrashError,
)
from connectors.memory.sink import MemorySink
from connectors.memory.source import MemoryReader, MemorySource

__all__ = [
    "ABORT", "CONTROL", "CORRUPT", "EOF", "PAUSE", "Item", "Mark", "MemoryLog", "MemoryReader", "MemorySink",
    "MemorySource", "Record", "SimulatedCrashError",
]  # fmt: skip
