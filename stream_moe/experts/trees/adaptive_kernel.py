"""The compiled half of the adaptive tree: bag, step both trees, watch the error."""

from __future__ import annotations

import numpy as np

from stream_moe.drift.adwin import (
    DRIFT,
    LEVELS,
    MIN_ENTRIES,
    STABLE,
    WARNING,
    WindowArrays,
    cut_evidence,
    drop_oldest,
    insert,
)
from stream_moe.experts.trees import kernel as tree_kernel
from stream_moe.experts.trees.arrays import PENDING, TreeArrays, TreeLayout
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.draws import poisson, uniform
from stream_moe.types import Float32, Float64, Int32, Int64

# Why `run` came back.
DONE, GROW_FORE, GROW_BACK, WARNED, DRIFTED = range(5)
# Entries of `progress`: rows of the block each tree and the detector have done.
FORE, BACK, WATCHED = range(3)


@compiled
def draw_weights(
    seed: int, member: int, learnt: int, steps: Float64, y: Int32, weight: Float64, drawn: Float64
) -> int:
    """Multiply each learnt row's weight by its Poisson number; return how many rows have been learnt by now."""
    for t in range(y.shape[0]):
        drawn[t] = 0.0
        if y[t] >= 0 and weight[t] > 0.0:
            drawn[t] = weight[t]
            if steps.shape[0] > 1:
                drawn[t] *= poisson(steps, uniform(seed, member, learnt))
            learnt += 1
    return learnt


@compiled
def watch_error(w: WindowArrays, group: int, delta: float, warning_delta: float) -> int:
    """Take the full group into the window and test; a change of either sign forgets what was before it."""
    insert(w, 0, w.partial[0] / group)
    w.partial[0], w.waiting[0] = 0.0, 0
    if w.width[0] <= 2 * MIN_ENTRIES:
        return STABLE
    evidence, stale, _ = cut_evidence(w, 0, delta, warning_delta, group)
    level = LEVELS - 1
    while stale > 0.0:
        while w.filled[0, level] == 0:
            level -= 1
        drop_oldest(w, 0, level)
        stale -= 2.0**level
    return evidence


@compiled
def run(
    fore: TreeArrays,
    fore_layout: TreeLayout,
    fore_x: Float32,
    back: TreeArrays,
    back_layout: TreeLayout,
    back_x: Float32,
    has_back: bool,
    w: WindowArrays,
    group: int,
    delta: float,
    warning_delta: float,
    y: Int32,
    weight: Float64,
    drawn: Float64,
    proba: Float64,
    back_proba: Float64,
    left: Float64,
    right: Float64,
    progress: Int64,
) -> int:
    """Go on through the block until it is done, a tree must grow, or the detector has something to say.

    The trees run ahead of the detector by at most the rows that fill its group, so that a warning or a drift
    takes effect at the same event in any split of the stream.
    """
    n = y.shape[0]
    # Each for the tree it belongs to: they see other columns.
    value, place = np.empty(fore_layout.numeric.shape[0]), np.empty(fore_layout.nominal.shape[0], np.int64)
    back_value, back_place = np.empty(back_layout.numeric.shape[0]), np.empty(back_layout.nominal.shape[0], np.int64)
    if not tree_kernel.resume(fore, fore_layout, left, right):
        return GROW_FORE
    if not tree_kernel.resume(back, back_layout, left, right):
        return GROW_BACK
    while True:
        stop, room = progress[WATCHED], group - w.waiting[0]
        while stop < n and room > 0:
            if y[stop] >= 0 and weight[stop] > 0.0:
                room -= 1
            stop += 1
        if progress[FORE] < stop:
            progress[FORE] = tree_kernel.step_rows(
                fore, fore_layout, fore_x, y, drawn, progress[FORE], stop, proba, left, right, value, place
            )
            if fore.head[PENDING] >= 0:
                return GROW_FORE
        if has_back and progress[BACK] < stop:
            progress[BACK] = tree_kernel.step_rows(
                back,
                back_layout,
                back_x,
                y,
                drawn,
                progress[BACK],
                stop,
                back_proba,
                left,
                right,
                back_value,
                back_place,
            )
            if back.head[PENDING] >= 0:
                return GROW_BACK
        for t in range(progress[WATCHED], stop):
            if y[t] >= 0 and weight[t] > 0.0:
                w.events[0] += 1
                w.waiting[0] += 1
                said = 0
                for c in range(1, proba.shape[1]):
                    if proba[t, c] > proba[t, said]:
                        said = c
                if said != y[t]:
                    w.partial[0] += 1.0
        progress[WATCHED] = stop
        if w.waiting[0] == group:
            evidence = watch_error(w, group, delta, warning_delta)
            warned = evidence == WARNING and w.level[0] == STABLE
            w.level[0] = WARNING if evidence == WARNING else STABLE
            if evidence == DRIFT:
                w.drifts[0] += 1
                w.last_drift[0] = w.events[0]
                return DRIFTED
            if warned:
                w.warnings[0] += 1
                return WARNED
        if stop == n:
            return DONE
