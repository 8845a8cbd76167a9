"""The compiled half of the adaptive tree: bag, step both trees, watch the error."""

from __future__ import annotations

from typing import Any, NamedTuple

from stream_moe.drift.adwin import DRIFT, STABLE, WARNING, WindowArrays, take_group
from stream_moe.experts.compiled import DONE
from stream_moe.experts.trees import kernel as tree_kernel
from stream_moe.experts.trees.arrays import PENDING, Scratch, TreeArrays, TreeLayout
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.draws import poisson, uniform
from stream_moe.types import Float32, Float64, Int32, Int64

# Why `step` came back.
GROW_FORE, GROW_BACK, WARNED, DRIFTED, LOOK = range(DONE + 1, DONE + 6)
# Entries of `progress`: where in the block the tile lies, and rows of it that each tree and the detector have done.
BEGIN, END, FORE, BACK, WATCHED = range(5)
TILE = 64  # rows at a time: bounds the scratch; changes no result
RECENT = 100  # events on which the archived trees are compared, at most
FIRST = RECENT  # events learnt, in which the numeric columns of few values are found


class Side(NamedTuple):
    """One of the two trees, and what of a tile it sees."""

    tree: TreeArrays
    layout: TreeLayout
    scratch: Scratch
    columns: Int64  # [m]
    x: Float32  # [TILE, m]


class Bag(NamedTuple):
    """How the events' weights are drawn."""

    seed: int
    member: int
    steps: Float64  # of the Poisson law; one = no bagging
    learnt: Int64  # [1] events learnt


class Detector(NamedTuple):
    """The detector of the tree's error."""

    windows: WindowArrays  # of one stream
    group: int  # events in one entry of the window
    delta: float
    warning_delta: float
    look_at: int  # the event learnt at which `run` comes back for the columns' values to be looked at; -1 = at none


class Recent(NamedTuple):
    """The latest events learnt, oldest first, somewhere in buffers of twice their number."""

    x: Float32  # [2 RECENT, d]
    y: Int32  # [2 RECENT]
    end: Int64  # [1] where the next goes


class Tile(NamedTuple):
    """Some rows of the block, as `Expert.step` has them."""

    x: Float32  # [n, d]
    y: Int32  # [n]
    weight: Float64  # [n]
    proba: Float64  # [n, C]


class Work(NamedTuple):
    """What is made of a tile, and how far it is done."""

    drawn: Float64  # [TILE] each event's weight times its Poisson number; 0 = predict only
    spare: Float64  # [TILE, C] the successor's predictions, which nobody reads
    progress: Int64  # [5]


@compiled(no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Test, then train, tile by tile: the kernel of `CompiledExpert`."""
    fore, back, has_back, bag, detector, recent, work = opened(state)
    done = work.progress
    if not again:
        done[:] = 0
    while True:
        if done[WATCHED] == done[END] - done[BEGIN]:  # or no tile was begun
            if done[END] == x.shape[0]:
                return DONE
            done[BEGIN], done[END], done[FORE:] = done[END], min(done[END] + TILE, x.shape[0]), 0
            draw_weights(bag, y[done[BEGIN] : done[END]], weight[done[BEGIN] : done[END]], work.drawn)
        begin, end = done[BEGIN], done[END]
        tile = Tile(x[begin:end], y[begin:end], weight[begin:end], proba[begin:end])
        reason = run(fore, back, has_back, detector, recent, work, tile)
        if reason != DONE:
            return reason


@compiled
def draw_weights(bag: Bag, y: Int32, weight: Float64, drawn: Float64) -> None:
    """Multiply each learnt row's weight by its Poisson number, and count it."""
    for t in range(y.shape[0]):
        drawn[t] = 0.0
        if y[t] >= 0 and weight[t] > 0.0:
            drawn[t] = weight[t]
            if bag.steps.shape[0] > 1:
                drawn[t] *= poisson(bag.steps, uniform(bag.seed, bag.member, bag.learnt[0]))
            bag.learnt[0] += 1


@compiled
def run(fore: Side, back: Side, has_back: bool, detector: Detector, recent: Recent, work: Work, tile: Tile) -> int:
    """Go on through the tile until it is done, a tree must grow, or the detector warns or finds a drift.

    It also comes back where the values of the first events are to be looked at.

    The trees run ahead of the detector by at most the rows that fill its group, so that a warning or a drift
    takes effect at the same event in any split of the stream.
    """
    w, group, done = detector.windows, detector.group, work.progress
    y, weight, n = tile.y, tile.weight, tile.y.shape[0]
    if not tree_kernel.resume(fore.tree, fore.layout, fore.scratch):
        return GROW_FORE
    if not tree_kernel.resume(back.tree, back.layout, back.scratch):
        return GROW_BACK
    fore_x, back_x = seen(fore, tile.x), tile.x
    has_back = has_back and work.drawn[:n].max() > 0.0  # to predict only, the successor is not asked
    if has_back:
        back_x = seen(back, tile.x)
    while True:
        stop, room = done[WATCHED], group - w.waiting[0]
        if w.events[0] < detector.look_at:
            room = min(room, detector.look_at - w.events[0])
        while stop < n and room > 0:
            if y[stop] >= 0 and weight[stop] > 0.0:
                room -= 1
            stop += 1
        if done[FORE] < stop:
            done[FORE] = tree_kernel.step_rows(
                fore.tree, fore.layout, fore_x, y, work.drawn, done[FORE], stop, tile.proba, fore.scratch
            )
            if fore.tree.head[PENDING] >= 0:
                return GROW_FORE
        if has_back and done[BACK] < stop:
            done[BACK] = tree_kernel.step_rows(
                back.tree, back.layout, back_x, y, work.drawn, done[BACK], stop, work.spare, back.scratch
            )
            if back.tree.head[PENDING] >= 0:
                return GROW_BACK
        for t in range(done[WATCHED], stop):
            if y[t] >= 0 and weight[t] > 0.0:
                remember(recent, tile.x[t], y[t])
                w.events[0] += 1
                w.waiting[0] += 1
                named = 0
                for c in range(1, tile.proba.shape[1]):
                    if tile.proba[t, c] > tile.proba[t, named]:
                        named = c
                if named != y[t]:
                    w.partial[0] += 1.0
        done[WATCHED] = stop
        if w.events[0] == detector.look_at:  # before the detector speaks: afterwards it has its turn
            return LOOK
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
        if stop == n:
            return DONE


@compiled
def seen(side: Side, x: Float32) -> Float32:
    """Return the columns of x that the tree sees."""
    if side.columns.shape[0] == x.shape[1]:
        return x
    for t in range(x.shape[0]):
        for j in range(side.columns.shape[0]):
            side.x[t, j] = x[t, side.columns[j]]
    return side.x[: x.shape[0]]


@compiled(_nrt=False)
def remember(recent: Recent, row: Float32, y: int) -> None:
    """Keep an event among the latest."""
    if recent.end[0] == 2 * RECENT:  # once in RECENT events, the last of them go to the front
        for i in range(RECENT):
            for j in range(row.shape[0]):
                recent.x[i, j] = recent.x[RECENT + i, j]
            recent.y[i] = recent.y[RECENT + i]
        recent.end[0] = RECENT
    for j in range(row.shape[0]):
        recent.x[recent.end[0], j] = row[j]
    recent.y[recent.end[0]] = y
    recent.end[0] += 1
