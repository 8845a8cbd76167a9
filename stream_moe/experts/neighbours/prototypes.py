"""Prototypes that move: each follows one cluster of one class, its place, its velocity and its spread.

The distance r of a cluster's events from its centre is taken to be half-normal, in any direction: density
r^-(d-1) exp(-r^2 / 2 s^2) / s. It is steep at the centre in any dimension, so that a centre that is known
well decides more than the many events around it, which is all that neighbours can see.

A centre is tracked as by a Kalman filter of constant velocity. Under this density an event at distance r
tells as much of the centre as a Gaussian measurement of variance r^2 / d does: a near event pulls hard and a
far one hardly at all, which keeps a centre from being captured by the next cluster.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.experts.compiled import DONE
from stream_moe.experts.state import MOMENTS, ArrayState, Moments, keep, no_moments, precision, take_in
from stream_moe.ranges import ANY, COUNT, Range, check, index, named
from stream_moe.runtime.bound import opened
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Snapshot
from stream_moe.types import Bool, Float32, Float64, Int32, Schema

FLOOR = 0.01  # share of the probability that is spread over all classes
NEW_BLUR = 0.05  # variance, per feature in squared deviations, of a centre known from one event
SPREAD_RATE = 0.02
SMALLEST_SPREAD = 1e-4
PENALTY, SHRINKAGE = 0.3, 0.04  # of the mass and the squared spread of a prototype that was sure and wrong
GAP_RATE = 0.05  # of the mean time between two events of a prototype
FIRST_GAP = 50.0
MOST_VALUES = 2**26  # coordinates, of places and velocities, in 1 GiB
SETTLED = 4  # events before a velocity means anything


class Swarm(NamedTuple):
    """K prototypes in d features."""

    centre: Float64  # [K, d] where it was at its latest event, in units of the features
    velocity: Float64  # [K, d] per event of the stream
    label: Int32  # [K] class, -1 = free
    mass: Float64  # [K] fading count of its events, as of its latest one
    spread: Float64  # [K] mean squared distance of its events, in squared deviations
    blur: Float64  # [K] variance of the centre, per feature
    gap: Float64  # [K] mean time between its events
    hits: Float64  # [K]
    latest: Float64  # [K] time of its latest event
    clock: Float64  # [1] events learnt


class Scratch(NamedTuple):
    row: Float64  # [d]
    scale: Float64  # [d] 0 = this feature does not count
    score: Float64  # [K]
    distance: Float64  # [K] squared
    log_mass: Float64  # [K] at the moment
    logs: Float64  # [2, K] of mass and spread, as of the latest event: they seldom change
    known: Bool  # [1] whether `logs` are those of the swarm, which a restore changes


@compiled(_nrt=False, fastmath={"contract", "nsz", "reassoc"})
def squared_distance(row: Float64, scale: Float64, centre: Float64, velocity: Float64, time: float) -> float:
    total = 0.0
    for j in range(row.shape[0]):
        gap = (row[j] - centre[j] - velocity[j] * time) * scale[j]
        total += gap * gap
    return total


@compiled(_nrt=False)
def look(x: Float32, n_categories: Int32, moments: Moments, s: Scratch) -> float:
    """Make a row and its scale ready; return how many features count: numeric or binary, there, and varied."""
    seen = 0.0
    for j in range(x.shape[0]):
        s.row[j], s.scale[j] = 0.0, 0.0
        if not math.isnan(x[j]) and n_categories[j] <= 2:
            s.row[j] = x[j]
            s.scale[j] = precision(moments, j)
            if s.scale[j] > 0.0:
                seen += 1.0
    return seen


@compiled(_nrt=False)
def take_logs(w: Swarm, s: Scratch, k: int) -> None:
    """Prototype k has changed."""
    if w.label[k] >= 0:
        s.logs[0, k], s.logs[1, k] = math.log(w.mass[k]), math.log(w.spread[k])


@compiled(_nrt=False)
def score_all(w: Swarm, s: Scratch, seen: float, drift: float, log_memory: float) -> int:
    """Write each prototype's log density (with its mass) at the row; return the highest one's index, or -1."""
    top = -1
    for k in range(w.label.shape[0]):
        if w.label[k] < 0:
            s.score[k] = s.log_mass[k] = -np.inf
            continue
        time = w.clock[0] - w.latest[k]
        r2 = squared_distance(s.row, s.scale, w.centre[k], w.velocity[k], time)
        # d times the blur keeps the peak as wide as the centre is uncertain.
        peak = math.log(r2 + max(seen, 1.0) * (w.blur[k] + drift * time))
        s.distance[k] = r2
        s.log_mass[k] = s.logs[0, k] + log_memory * time
        s.score[k] = s.log_mass[k] - 0.5 * (s.logs[1, k] + r2 / w.spread[k] + max(seen - 1.0, 0.0) * peak)
        if top < 0 or s.score[k] > s.score[top]:
            top = k
    return top


@compiled(_nrt=False)
def answer(w: Swarm, s: Scratch, top: int, proba: Float64) -> None:
    n_classes = proba.shape[0]
    proba[:] = 1.0 / n_classes
    if top < 0:
        return
    proba[:] = 0.0
    total = 0.0
    for k in range(w.label.shape[0]):
        if s.score[k] >= s.score[top] - 30.0:  # e^-30 is below any rounding that matters
            share = math.exp(s.score[k] - s.score[top])
            proba[w.label[k]] += share
            total += share
    for c in range(n_classes):
        proba[c] = (1.0 - FLOOR) * proba[c] / total + FLOOR / n_classes


@compiled(_nrt=False)
def follow(w: Swarm, s: Scratch, k: int, seen: float, drift: float, agility: float, log_memory: float) -> None:
    """Take the row as an event of prototype k: move it there by the filter's gain."""
    time, r2 = w.clock[0] - w.latest[k], s.distance[k]
    blur = w.blur[k] + drift * time
    gain = blur / (blur + r2 / max(seen, 1.0) + 1e-9)
    w.mass[k] = w.mass[k] * math.exp(log_memory * time) + 1.0
    w.hits[k] += 1.0
    for j in range(s.row.shape[0]):
        expected = w.centre[k, j] + w.velocity[k, j] * time
        gap = s.row[j] - expected if s.scale[j] > 0.0 else 0.0
        w.centre[k, j] = expected + gain * gap
        if w.hits[k] > SETTLED:
            w.velocity[k, j] += agility * gain * gap / w.gap[k]
    w.blur[k] = (1.0 - gain) * blur
    w.spread[k] += max(SPREAD_RATE, 1.0 / (w.hits[k] + 3.0)) * (r2 - w.spread[k])
    w.spread[k] = max(w.spread[k], SMALLEST_SPREAD)
    w.gap[k] += max(GAP_RATE, 1.0 / w.hits[k]) * (time - w.gap[k])
    w.gap[k] = max(w.gap[k], 1.0)
    w.latest[k] = w.clock[0]


@compiled(_nrt=False)
def settle(w: Swarm, s: Scratch, k: int, y: int, seen: float, moments: Moments) -> None:
    """Begin prototype k anew at the row."""
    for j in range(s.row.shape[0]):
        w.centre[k, j] = s.row[j] if s.scale[j] > 0.0 else moments.mean[j]
        w.velocity[k, j] = 0.0
    w.label[k], w.mass[k], w.hits[k], w.latest[k] = y, 1.0, 1.0, w.clock[0]
    w.spread[k], w.blur[k], w.gap[k] = NEW_BLUR * max(seen, 1.0), NEW_BLUR, FIRST_GAP


@compiled(_nrt=False, no_cpython_wrapper=True)
def step(state: Any, x: Float32, y: Int32, weight: Float64, proba: Float64, again: bool) -> int:
    """Test, then follow, row by row: the kernel of `CompiledExpert`."""
    w, moments, n_categories, reach, drift, agility, memory, s = opened(state)
    log_memory = math.log(memory)
    if not s.known[0]:
        for k in range(w.label.shape[0]):
            take_logs(w, s, k)
        s.known[0] = True
    for t in range(x.shape[0]):
        seen = look(x[t], n_categories, moments, s)
        top = score_all(w, s, seen, drift, log_memory)
        answer(w, s, top, proba[t])
        if y[t] < 0 or weight[t] <= 0.0:
            continue
        if top >= 0 and w.label[top] != y[t]:
            w.mass[top] *= 1.0 - PENALTY
            w.spread[top] = max(w.spread[top] * (1.0 - SHRINKAGE), SMALLEST_SPREAD)
            take_logs(w, s, top)
        own, weakest = -1, 0
        for k in range(w.label.shape[0]):
            if w.label[k] == y[t] and (own < 0 or s.score[k] > s.score[own]):
                own = k
            if s.log_mass[k] < s.log_mass[weakest]:
                weakest = k
        w.clock[0] += 1.0
        if own >= 0 and s.distance[own] < reach * w.spread[own]:
            follow(w, s, own, seen, drift, agility, log_memory)
            take_logs(w, s, own)
        else:
            settle(w, s, weakest, y[t], seen, moments)
            take_logs(w, s, weakest)
        take_in(moments, x[t], n_categories)
    return DONE


class MovingPrototypes(ArrayState):
    """Clusters of one class each that are tracked while they move.

    Parameters
    ----------
    schema
        Features and classes. Nominal features of more than two categories are not seen.
    size
        K, how many prototypes there are at most; the one with the least fading mass makes room.
    drift
        Variance that a centre gains per event and feature, in squared deviations: how fast clusters may turn.
    agility
        How fast a velocity follows.
    reach
        Squared distance, in squared spreads, up to which an event belongs to the best prototype of its class;
        beyond it a new one begins.
    memory
        In (0, 1]: what is left of a prototype's mass after each event of the stream.

    Notes
    -----
    A prototype that was the most probable one and of the wrong class loses mass and spread. The clusters are
    those of a random RBF stream (Bifet et al., MOA, 2010), where knowing the true centres and their spread
    is worth about 97 %.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> t = np.arange(4000)
    >>> y = rng.integers(0, 2, 4000).astype(np.int32)
    >>> angle = t / 500 + np.pi * y  # two clusters on a circle, changing places
    >>> x = (np.column_stack([np.cos(angle), np.sin(angle)]) + rng.normal(0, 0.3, (4000, 2))).astype(np.float32)
    >>> expert, proba = MovingPrototypes(Schema.numeric(2, ["no", "yes"])), np.empty((4000, 2))
    >>> expert.step(x, y, np.ones(4000), proba)
    >>> bool((proba.argmax(1) == y)[500:].mean() > 0.97)
    True
    """

    kind = "prototypes"
    kernel = step
    expensive = True

    def __init__(
        self,
        schema: Schema,
        *,
        size: int = 128,
        drift: float = 3e-4,
        agility: float = 0.1,
        reach: float = 4.0,
        memory: float = 0.9995,
    ) -> None:
        if not (1 <= size <= 65536 and drift >= 0 and 0 <= agility <= 1 and reach > 0 and 0 < memory <= 1):
            raise ConfigError(
                f"prototypes: size {size} must lie in 1..65536, drift {drift} at 0 or above, agility {agility} in "
                f"[0, 1], reach {reach} above 0, memory {memory} in (0, 1]"
            )
        if schema.n_features * size > MOST_VALUES:
            raise ConfigError(
                f"prototypes: size {size} in {schema.n_features} features; {MOST_VALUES:,} coordinates may be kept, "
                f"give {MOST_VALUES // schema.n_features} or less"
            )
        self._size, self._settings = size, (reach, drift, agility, memory)
        self._set_schema(schema)

    def _parts(self) -> dict[str, Any]:
        return {"swarm": self._swarm, "moments": self._moments}

    def _ranges(self) -> dict[str, dict[str, Range]]:
        grown = Range(0.0, nan=True)  # of a cluster whose filter ran off
        swarm = named(
            Swarm, centre=ANY, velocity=ANY, label=index(self.n_classes, none=True), mass=grown, spread=grown,
            blur=grown, gap=grown, hits=COUNT, latest=COUNT, clock=COUNT,
        )  # fmt: skip
        return {"swarm": swarm, "moments": MOMENTS}

    def restore(self, snapshot: Snapshot) -> None:
        super().restore(snapshot)
        check(self.kind, "swarm.latest", self._swarm.latest, Range(0, float(self._swarm.clock[0])))
        self._scratch.known[0] = False

    def _state(self) -> tuple[Any, ...]:
        return self._swarm, self._moments, self._n_categories, *self._settings, self._scratch

    def grow(self, schema: Schema) -> None:
        swarm, moments = self._swarm, self._moments
        self._set_schema(schema)
        keep(self._swarm, swarm)
        keep(self._moments, moments)

    def _set_schema(self, schema: Schema) -> None:
        k, d = self._size, schema.n_features
        self.n_classes = schema.n_classes
        self._n_categories = schema.n_categories
        self._moments = no_moments(d)
        self._swarm = Swarm(
            centre=np.zeros((k, d)), velocity=np.zeros((k, d)), label=np.full(k, -1, np.int32), mass=np.zeros(k),
            spread=np.ones(k), blur=np.zeros(k), gap=np.zeros(k), hits=np.zeros(k), latest=np.zeros(k),
            clock=np.zeros(1),
        )  # fmt: skip
        self._scratch = Scratch(
            np.empty(d), np.empty(d), np.empty(k), np.empty(k), np.empty(k), np.empty((2, k)), np.zeros(1, np.bool_)
        )
        self._unbind()
