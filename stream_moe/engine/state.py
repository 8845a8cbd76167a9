"""What the log of a partition determines, all of it: a checkpoint holds it, and a replay comes to the same."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream_moe.drift.watch import DriftWatch
from stream_moe.engine.inputs import InputCounts
from stream_moe.engine.join import LabelJoin
from stream_moe.engine.settings import EngineSettings
from stream_moe.engine.step import Outcome, step
from stream_moe.engine.waiting import Joined
from stream_moe.evaluation.metrics import Prequential
from stream_moe.models.contract import BlockClassifier
from stream_moe.ranges import Range, number
from stream_moe.snapshot import Snapshot
from stream_moe.types import Block, Float32, Schema

CHECKSUM = Range(0, 2**32 - 1)
DEAD = "dead:"  # begins the stored names of the counts of dead letters


@dataclass(slots=True)
class LogCounts:
    """Counts of what the log held, and a checksum of what was answered.

    Examples
    --------
    >>> counts = LogCounts(features=3, dead=Counter({"bad-json": 2}))
    >>> LogCounts.from_dict(counts.to_dict()) == counts
    True
    """

    features: int = 0  # records with features
    predictions: int = 0  # committed, by whichever run
    answers: int = 0  # crc32 of all answers of the learner so far
    dead: Counter[str] = field(default_factory=Counter)  # dead letters by reason

    @property
    def digest(self) -> str:
        """The checksum in hex."""
        return f"{self.answers:08x}"

    def to_dict(self) -> dict[str, int]:
        """Return plain values, as a checkpoint has them."""
        plain = {"features": self.features, "predictions": self.predictions, "answers": self.answers}
        return plain | {DEAD + reason: n for reason, n in self.dead.items()}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> LogCounts:
        """Read what `to_dict` wrote; a count that is not there is zero, CheckpointError where one cannot be."""
        found = {"features": 0, "predictions": 0, "answers": 0} | plain
        dead = {name.removeprefix(DEAD): number("counts", found, name) for name in found if name.startswith(DEAD)}
        features, predictions = (number("counts", found, name) for name in ("features", "predictions"))
        return cls(features, predictions, number("counts", found, "answers", CHECKSUM), Counter(dead))


class PartitionState:
    """Learner, label join, scores, drift detectors and counts of one partition, of what it learnt and what came in.

    Parameters
    ----------
    learner
        Nothing learnt yet.
    settings
        The bounds of what waits for a label.
    first
        The schema that the learner's grew from, if it did.
    grows
        Whether it may: then costs and thresholds may name classes that are still to come.
    """

    def __init__(
        self, learner: BlockClassifier, settings: EngineSettings, first: Schema | None = None, *, grows: bool = False
    ) -> None:
        schema = learner.schema
        self.learner, self.first, self._rule = learner, first or schema, settings.answers
        self.join = LabelJoin(
            schema.n_features, schema.n_classes, max_waiting=settings.max_waiting, timeout=settings.label_seconds,
            sparse=schema.sparse,
        )  # fmt: skip
        self.answers = self._rule.over(schema.classes, partly=grows)
        self.quality = Prequential(schema.n_classes, self.answers)
        self.watch = DriftWatch(schema)
        self.inputs = InputCounts(schema)
        self.counts = LogCounts()

    def grow(self, schema: Schema) -> None:
        """Go on under a schema that grew."""
        self.answers = self._rule.over(schema.classes, partly=True)
        self.learner.grow(schema)
        self.join.grow(schema.n_features, schema.n_classes)
        self.quality.grow(schema.n_classes, self.answers)
        self.watch.grow(schema)
        self.inputs.grow(schema)

    def take(self, block: Block) -> tuple[Joined, Outcome, Float32]:
        """Take a block through join, learner, scores and detectors; return its rows, what came of it, and weights."""
        assert block.offsets is not None  # the codec gives both
        assert block.timestamps is not None
        self.inputs.update(block.x if block.has_features is None else block.x[block.has_features])
        joined = self.join.join(block)
        weights = np.empty((len(joined.y), self.learner.n_experts), np.float32)
        read = slice(None) if block.has_features is None else block.has_features
        outcome = step(self.learner, self.watch, joined, block.offsets[read], block.timestamps[read], weights)
        self.quality.update(outcome.scored, joined.scored)
        counts = self.counts
        counts.answers = zlib.crc32(np.ascontiguousarray(outcome.proba).data, counts.answers)
        counts.features += len(joined.answers)
        counts.predictions += len(joined.answers)  # those of a replay were committed by the run before
        return joined, outcome, weights

    def parts(self) -> dict[str, Snapshot]:
        """Snapshots of all but the learner, by name."""
        return {
            "quality": self.quality.snapshot(),
            "watch": self.watch.snapshot(),
            "join": self.join.snapshot(),
            "inputs": self.inputs.snapshot(),
            "counts": ({}, self.counts.to_dict()),
        }

    def restore(self, parts: dict[str, Snapshot]) -> None:
        """Go on from what `parts` gave, and the learner's snapshot."""
        self.learner.restore(parts["learner"])
        self.quality.restore(parts["quality"])
        self.join.restore(parts["join"])
        if "inputs" in parts:  # which a checkpoint made before they were counted does not have
            self.inputs.restore(parts["inputs"])
        self.counts = LogCounts.from_dict(parts["counts"][1])
        if parts["watch"][1] is None:
            self.watch.begin_at(self.counts.features, self.quality.events)
        else:
            self.watch.restore(parts["watch"])
