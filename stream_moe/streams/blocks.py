"""A stream cut where somebody wants it to end."""

from __future__ import annotations

from collections.abc import Iterator

from stream_moe.ports import Stream
from stream_moe.types import Block


def labelled_blocks(stream: Stream, events: int, rows: int) -> Iterator[Block]:
    """Yield the first `events` (at least 1) events of a stream in blocks."""
    for block in stream.blocks(rows):
        yield Block(block.x[:events], block.y[:events])
        events -= len(block)
        if events <= 0:
            return
