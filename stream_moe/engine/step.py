"""From rows to what comes of them: what a daemon and a replay do with every block. No log, no clock, no commit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from stream_moe.drift.watch import DriftWatch
from stream_moe.engine.waiting import Joined
from stream_moe.models.contract import BlockClassifier
from stream_moe.report import Drift
from stream_moe.types import Float32, Float64, Int64, has_label


@dataclass(slots=True)
class Outcome:
    """What came of a block.

    Attributes
    ----------
    proba
        float64 [m, `Schema.width`], what the learner predicted for each row before it learnt it.
    scored
        float64 [k, `Schema.width`], the predictions to be scored with `Joined.scored`.
    drifts
        Found in the block, by event.
    """

    proba: Float64
    scored: Float64
    drifts: list[Drift]


def step(
    learner: BlockClassifier,
    watch: DriftWatch,
    joined: Joined,
    offsets: Int64,
    timestamps: Int64,
    weights: Float32 | None = None,
) -> Outcome:
    """Predict and learn a joined block, settle what is scored, and look for drifts.

    Parameters
    ----------
    learner, watch
        Changed.
    joined
        The block's rows.
    offsets, timestamps
        int64 [n] of the block's events: position in the log or stream, ms since 1970 (-1 = unknown).
    weights
        float32 [m, E], out, optional: the router's weights.
    """
    proba = learner.step(joined.x, joined.y, weights, tickets=joined.tickets, keys=joined.keys)
    scored, _ = joined.settle(proba)
    labelled = np.flatnonzero(has_label(joined.y))
    drifts = watch.update(learner, joined.events, offsets, timestamps, joined.y[labelled], joined.reached(labelled))
    return Outcome(proba, scored, drifts)
