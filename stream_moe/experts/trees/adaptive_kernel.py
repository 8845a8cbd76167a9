"""The compiled half of the adaptive tree: bag, step both trees, watch the error."""

from __future__ import annotations

from typing import NamedTuple

from stream_moe.drift.adwin import DRIFT, STABLE, WARNING, WindowArrays, take_group
from stream_moe.experts.trees import kernel as tree_kernel
from stream_moe.experts.trees.arrays import PENDING, Scratch, TreeArrays, TreeLayout
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.draws import poisson, uniform
from stream_moe.types import Float32, Float64, Int32, Int64

# Why `run` came back.
DONE, GROW_FORE, GROW_BACK, WARNED, DRIFTED, LOOK = range(6)
# Entries of `progress`: rows of the block each tree and the detector have done.
FORE, BACK, WATCHED = range(3)


class Side(NamedTuple):
    """One of the two trees, and the block as it sees it."""

    tree: TreeArrays
    layout: TreeLayout
    scratch: Scratch
    x: Float32  # [n, m] its columns
    proba: Float64  # [n, C], out


class Labels(NamedTuple):
    """What is learnt of a block of n events."""

    y: Int32  # [n]
    weight: Float64  # [n] 0 = predict only
    drawn: Float64  # [n] the weight times a Poisson number


class Detector(NamedTuple):
    """The detector of the tree's error."""

    windows: WindowArrays  # of one stream
    group: int  # events in one entry of the window
    delta: float
    warning_delta: float
    look_at: int  # the event learnt at which `run` comes back for the columns' values to be looked at; -1 = at none


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
def run(fore: Side, back: Side, has_back: bool, detector: Detector, labels: Labels, progress: Int64) -> int:
    """Go on through the block until it is done, a tree must grow, or the detector warns or finds a drift.

    It also comes back where the values of the first events are to be looked at.

    The trees run ahead of the detector by at most the rows that fill its group, so that a warning or a drift
    takes effect at the same event in any split of the stream.
    """
    w, group = detector.windows, detector.group
    y, weight = labels.y, labels.weight
    n = y.shape[0]
    if not tree_kernel.resume(fore.tree, fore.layout, fore.scratch):
        return GROW_FORE
    if not tree_kernel.resume(back.tree, back.layout, back.scratch):
        return GROW_BACK
    while True:
        if w.events[0] == detector.look_at:
            return LOOK
        stop, room = progress[WATCHED], group - w.waiting[0]
        if w.events[0] < detector.look_at:
            room = min(room, detector.look_at - w.events[0])
        while stop < n and room > 0:
            if y[stop] >= 0 and weight[stop] > 0.0:
                room -= 1
            stop += 1
        if progress[FORE] < stop:
            progress[FORE] = advance(fore, labels, progress[FORE], stop)
            if fore.tree.head[PENDING] >= 0:
                return GROW_FORE
        if has_back and progress[BACK] < stop:
            progress[BACK] = advance(back, labels, progress[BACK], stop)
            if back.tree.head[PENDING] >= 0:
                return GROW_BACK
        for t in range(progress[WATCHED], stop):
            if y[t] >= 0 and weight[t] > 0.0:
                w.events[0] += 1
                w.waiting[0] += 1
                named = 0
                for c in range(1, fore.proba.shape[1]):
                    if fore.proba[t, c] > fore.proba[t, named]:
                        named = c
                if named != y[t]:
                    w.partial[0] += 1.0
        progress[WATCHED] = stop
        if w.waiting[0] == group:
            evidence, _ = take_group(w, 0, group, detector.delta, detector.warning_delta)
            warned = evidence == WARNING and w.level[0] == STABLE
            w.level[0] = WARNING if evidence == WARNING else STABLE
            if evidence == DRIFT:
                w.drifts[0] += 1
                w.last_drift[0] = w.events[0]
                return DRIFTED
            if warned:
                w.warnings[0] += 1
                return WARNED
        if stop == n and w.events[0] != detector.look_at:
            return DONE


@compiled
def advance(side: Side, labels: Labels, start: int, stop: int) -> int:
    """Step a tree through rows `start` to `stop`; return the first row not done."""
    return tree_kernel.step_rows(
        side.tree, side.layout, side.x, labels.y, labels.drawn, start, stop, side.proba, side.scratch
    )
