"""Golden checkpoints: one file of each format version that ever was, read and continued by today's code.

`python -m tests.golden` writes the file of the current version; it never touches those of older ones. The
state that the engine must reach from any of them is `DIGEST`: a change that moves it changes what is learnt.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.models.catalogue import build_model
from stream_moe.ports import CheckpointStore
from stream_moe.streams import open_stream
from stream_moe.types import Block

HERE = Path(__file__).parent
MODEL = "hoeffding-tree"
EVENTS, AT, LATE = 4000, 3000, 200  # events, records before the checkpoint, records that a late label is late
DIGEST = "4441745da9add7dc93c8b4a6658352d10aba0f45654cb629efb1394ebef68c99"
STREAM = open_stream("electricity")


def records() -> list[bytes]:
    """Write the events as records; the label of every fifth comes late, as a record of its own."""
    block = next(STREAM.blocks(EVENTS))
    codec = JsonCodec(STREAM.schema)
    whole = codec.encode_events(block)
    values: list[tuple[int, bytes]] = []
    for i, value in enumerate(whole):
        if i % 5:
            values.append((i, value))
        else:
            label = Block(block.x[i : i + 1], block.y[i : i + 1], [str(i)], np.zeros(1, np.bool_))
            values += [(i, codec.encode_event(str(i), block.x[i])), (i + LATE, codec.encode_events(label)[0])]
    return [value for _, value in sorted(values, key=lambda pair: pair[0])]


def engine(
    state: Path, *, until: int | None = None, committed: int | None = None, store: CheckpointStore | None = None
) -> tuple[Engine, MemoryLog]:
    """Make an engine over the first `until` records, of which `committed` are committed already."""
    log = MemoryLog()
    log.extend("events", [*(Record(value, None, i) for i, value in enumerate(records()[:until])), EOF])
    if committed is not None:
        log.commit("events", "golden", log.fence("events", "golden"), committed, [])
    source, sink = MemorySource(log, "events", "golden"), MemorySink(log, "events", "golden")
    store, settings = store or FileCheckpointStore(state), EngineSettings(MODEL)
    return Engine(source, sink, lambda _: store, lambda s: build_model(MODEL, s), settings, schema=STREAM.schema), log
