"""What a task hands from one step to the next: a block that was taken, its report, a checkpoint under way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from stream_moe.answers import Answers
from stream_moe.engine.step import Outcome
from stream_moe.engine.waiting import Joined
from stream_moe.models.parts import PendingSnapshot
from stream_moe.report import Drift
from stream_moe.snapshot import Snapshot
from stream_moe.types import Block, Float32, Float64


@dataclass(frozen=True, slots=True)
class Saving:
    """A checkpoint whose learner is still being written: its position, its other parts, and the learner."""

    position: int
    parts: dict[str, Snapshot]
    learner: PendingSnapshot


@dataclass(frozen=True, slots=True)
class Taken:
    """A block, or the part of one under one schema, and what came of it."""

    block: Block
    joined: Joined
    outcome: Outcome
    weights: Float32
    answers: Answers


@dataclass(slots=True)
class BlockReport:
    """What a block left for its report."""

    rows: int = 0
    phases: dict[str, float] | None = None  # seconds by phase
    commit: float = 0.0  # seconds
    latencies: Sequence[float] | Float64 = ()  # seconds from each record's timestamp to its commit
    delays: Sequence[float] | Float64 = ()  # seconds from an event's timestamp to that of its label
    drifts: Sequence[Drift] = ()  # found, whether told now or by the run that a replay repeats


def seconds_by_phase(
    clock: Sequence[float], before: Mapping[str, float], now: Mapping[str, float]
) -> dict[str, float]:
    """Divide the seconds of a block; what the learner does not account for went into joining and scoring.

    Parameters
    ----------
    clock
        When decoding, stepping, encoding and sending began, and when the last ended.
    before, now
        The learner's seconds by phase.
    """
    decode, step, encode, send = np.diff(clock).tolist()
    learner = {name: s - before.get(name, 0.0) for name, s in now.items()}
    phases = {"decode": decode, **learner, "encode": encode, "send": send}
    phases["account"] = phases.get("account", 0.0) + max(0.0, step - sum(learner.values()))
    return phases
