"""What is fuzzed, and what must hold for any input: an exception that is not documented is a finding."""

from __future__ import annotations

import numpy as np

from stream_moe.checkpoints.checkpoint import Checkpoint, understood
from stream_moe.engine.codec import MAX_ID, JsonCodec
from stream_moe.engine.join import LabelJoin
from stream_moe.errors import CheckpointError
from stream_moe.evaluation.metrics import Prequential
from stream_moe.models.catalogue import build_model
from stream_moe.snapshot import unpack
from stream_moe.types import Block, RecordBatch
from tests import golden
from tests.fuzz.inputs import GOOD, SCHEMA

REASONS = {
    "tombstone", "empty", "too-large", "bad-utf8", "bad-json", "too-deep", "not-object", "bad-length", "bad-feature",
    "no-known-feature", "unknown-class", "bad-id", "no-content", "no-id",
}  # fmt: skip


class Codec:
    """A record between two good ones: they stay as they are, and it is an event or a dead letter of its own bytes."""

    def __init__(self) -> None:
        self._codec = JsonCodec(SCHEMA)
        self._offsets, self._times = np.arange(3), np.zeros(3, np.int64)

    def __call__(self, value: bytes | None) -> str:
        keys = [None, value[:8] if value else None, None]
        block, dead = self._codec.decode(RecordBatch(self._offsets, self._times, keys, [GOOD, value, GOOD], 3))
        assert len(block) + len(dead) == 3
        assert block.x[[0, -1]].tolist() == [[0.5, 0, 0]] * 2
        assert block.ids[0] == block.ids[-1] == "good"
        if dead:
            (letter,) = dead
            assert (letter.offset, letter.value, letter.stage) == (1, value, "decode")
            assert letter.reason in REASONS
            assert letter.message.isascii()
            assert len(letter.message) < 300
            return letter.reason
        assert not np.isinf(block.x).any()
        assert -1 <= block.y[1] < SCHEMA.n_classes
        assert len(block.ids[1]) <= MAX_ID
        again, none = self._codec.decode(
            RecordBatch(self._offsets, self._times, [None] * 3, list(self._codec.encode_events(block)), 3)
        )
        assert not none
        assert again.ids == block.ids
        assert again.x.tobytes() == np.where(np.isnan(block.x), np.float32(np.nan), block.x).tobytes()
        self._codec.encode_predictions(block.ids, self._offsets, np.full((3, 2), 0.5), None, "m")
        return "event"


class CheckpointReader:
    """A file is refused with a CheckpointError, or its state is taken over and learns on."""

    def __init__(self) -> None:
        self._learner = build_model(golden.MODEL, golden.STREAM.schema)
        block = next(golden.STREAM.blocks(8))
        ids = [str(i) for i in range(8)]
        has_features = np.arange(8) < 6
        y = np.where(np.arange(8) < 3, np.int32(-1), block.y)  # a copy: the stream's own arrays are shared
        self._block = Block(block.x, y, ids, has_features, np.arange(8), np.full(8, 5_000_000_000))

    def __call__(self, content: bytes) -> str:
        schema = golden.STREAM.schema
        try:
            found = Checkpoint.from_bytes(content)
        except CheckpointError as error:
            return _one_line(error, "refused")
        assert sum(array.nbytes for array in found.arrays.values()) <= len(content)
        join, quality = LabelJoin(schema.n_features, schema.n_classes), Prequential(schema.n_classes)
        try:
            with understood("it"):
                parts = unpack((found.arrays, found.plain))
                self._learner.restore(parts["learner"])
                quality.restore(parts["quality"])
                join.restore(parts["join"])
        except CheckpointError as error:
            return _one_line(error, "does not fit")
        joined = join.join(self._block)
        with np.errstate(all="ignore"):
            quality.update(*joined.settle(self._learner.step(joined.x, joined.y)))
            quality.report()
            self._learner.report()
        join.snapshot()
        return "learns on"


def _one_line(error: CheckpointError, outcome: str) -> str:
    text = str(error)
    assert text.isascii()
    assert "\n" not in text
    assert len(text) < 400
    return outcome
