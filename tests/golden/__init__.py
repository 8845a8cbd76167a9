"""Golden checkpoints: one file of each format version that ever was, read and continued by today's code.

`python -m tests.golden` writes the file of the current version; it never touches those of older ones. The
state that the engine must reach from any of them is `DIGEST`: a change that moves it changes what is learnt.

Version 5 has a file of each mixture too (`version-5-NAME.ckpt.xz`) and of its state as bytes (`state-5-NAME.bin.xz`),
with the state that each must reach in `MIXTURES`. Nothing writes them any more: they are of the last program in which
the mixtures had other class names and other parameters.

From version 7 on there is a file of an adaptive tree (`version-7-adaptive-tree.ckpt.xz`), which counts the columns of
few values: three of electricity's, until they vary. The state to be reached from any of them is `COUNTED`.
"""

from __future__ import annotations

import lzma
from pathlib import Path
from typing import NamedTuple

import numpy as np

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.ports import CheckpointStore
from stream_moe.streams import open_stream
from stream_moe.types import Block, Schema

HERE = Path(__file__).parent
MODEL = "hoeffding-tree"
EVENTS, AT, LATE = 4000, 3000, 200  # events, records before the checkpoint, records that a late label is late
DIGEST = "4441745da9add7dc93c8b4a6658352d10aba0f45654cb629efb1394ebef68c99"
COUNTED = "7d4ed07f05eb95a7b48653112e52eaf32daca3f02e8c485d99176b8db42d54ac"
STREAM = open_stream("electricity")
LEARNT, ON = 1500, 500  # events in the state as bytes, the last 50 of them without a label; events learnt after it


class Mixture(NamedTuple):
    """A mixture of which there are files, as `build_model` makes it."""

    model: str
    options: dict[str, str]
    digest: str  # after the last record, from the checkpoint
    state_digest: str = ""  # after `ON` more events, from the bytes; "" = there is no such file


MIXTURES = {
    "driftmoe": Mixture(
        "driftmoe",
        {"trees": "2", "window": "100", "prototypes": "8"},
        "5a7baad098c8296bde986c727d80570a3e27ecf735601993d553f80b2f77641d",
        "6e2962406c4e86f8bc14d7ab6ca7084f5cbdea0adb5a19956ff1440956d34599",
    ),
    "driftmoe-data": Mixture(
        "driftmoe-data",
        {"n_experts": "3", "top_k": "2", "mini_batch": "64", "hidden": "16"},
        "33dc942b107a593c42a9c8b48764c4a64ec0966f78f357f78971788314a13cb1",
        "036e1f2a9f49ffea0f34ab843372b8fa9618ac22f822eb5ad3d829f80cf76015",
    ),
    "driftmoe-task": Mixture(
        "driftmoe-task",
        {"vote": "true", "hidden": "16"},
        "698a38799f42500f851648246a9e2e0198f68b39001daacdc0ba539ffd7044bf",
        "0282f10e2292523fd41e2341ff202e5a45c1526f56c3a7435876c7946b765e48",
    ),
    "driftmoe-two-stage": Mixture(
        "driftmoe-two-stage",
        {"n_experts": "3", "mini_batch": "64", "hidden": "16", "burn_in": "200", "first_half": "600"},
        "3d528a83c537ae2a727a74cbc22763d0da70c5f083e1f26aeccfb47ecec5418a",
    ),
    "driftmoe-two-stage-task": Mixture(
        "driftmoe-two-stage",
        {"variant": "task", "mini_batch": "64", "hidden": "16", "first_half": "600"},
        "9da78898e652f5af8862175fb78d44c411af7a3242aa406a7f70125337891594",
    ),
}


def kept(name: str) -> bytes:
    """Read a file of a mixture, such as version-5-driftmoe.ckpt."""
    return lzma.decompress((HERE / f"{name}.xz").read_bytes())


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
    state: Path,
    *,
    until: int | None = None,
    committed: int | None = None,
    store: CheckpointStore | None = None,
    model: str = MODEL,
    options: dict[str, str] | None = None,
) -> tuple[Engine, MemoryLog]:
    """Make an engine over the first `until` records, of which `committed` are committed already."""
    log = MemoryLog()
    log.extend("events", [*(Record(value, None, i) for i, value in enumerate(records()[:until])), EOF])
    if committed is not None:
        log.commit("events", "golden", 0, log.fence("events", "golden"), committed)
    source, sink = MemorySource(log, "events", "golden"), MemorySink(log, "events", "golden")
    store, settings = store or FileCheckpointStore(state), EngineSettings(model)

    def make(schema: Schema | None) -> BlockClassifier:
        return build_model(model, schema, options=options)

    return Engine(source, sink, lambda _: store, make, settings, schema=STREAM.schema), log
