"""The generated benchmark streams: LED, SEA and drifting RBF, event for event those of MOA.

LED: Breiman et al., Classification and Regression Trees, 1984. SEA: Street and Kim, KDD 2001. Random RBF and
the composition of drifts: Bifet et al., MOA, JMLR 11, 2010. Given one seed the arrays equal MOA's bit for bit
(after rounding to float32); `tests/parity/test_moa_streams.py` holds the figures.

Three drifts join four concepts. There are two ramps in use for the same (position, width):
`capymoa`, CapyMOA 0.15's composition in Python, which changes only within width/2 of the position, and
`moa`, MOA's ConceptDriftStream, a sigmoid with unbounded tails that is at 12 and 88 % at those two ends.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stream_moe.errors import ConfigError
from stream_moe.streams import java_random, kernels
from stream_moe.types import Block, Feature, Float32, Float64, Int32, Int64, Schema

Fill = Callable[[Float32, Int32], None]
"""Writes the next events into x [n, d] and y [n]."""

PACES = {"a": (50, (249_975, 499_975, 749_975)), "g": (50_000, (225_000, 475_000, 725_000))}
LED_DRIFTING = (1, 3, 5, 7)
SEA_THRESHOLDS = (8.0, 9.0, 7.0, 9.5)
SEA_FUNCTIONS = (1, 2, 4, 1)
RBF_SPEEDS = {"m": 0.0001, "f": 0.001}
RBF_CENTRES = 50
SEGMENTS = "1110111 0010010 1011101 1011011 0111010 1101011 1101111 1010010 1111111 1111011"

LED_SCHEMA = Schema(
    tuple(Feature(f"att{j + 1}", ("0", "1")) for j in range(24)), tuple(str(digit) for digit in range(10))
)
SEA_SCHEMA = Schema.numeric(3, ["groupA", "groupB"], [f"attrib{j + 1}" for j in range(3)])


@dataclass(frozen=True)
class GeneratedStream:
    """An endless stream; `start` makes a `Fill` at its first event.

    Examples
    --------
    >>> stream = generate("sea", seed=1)
    >>> block = next(stream.blocks(3))
    >>> block.x.shape, block.x.dtype.name, block.y.tolist()
    ((3, 3), 'float32', [1, 1, 1])
    >>> stream.bayes_accuracy
    0.9
    """

    name: str
    schema: Schema
    start: Callable[[], Fill]
    bayes_accuracy: float | None = None

    @property
    def n_events(self) -> None:
        return None

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield blocks of `rows` events without end; each call starts anew.

        Raises
        ------
        ConfigError
            If `rows` is below 1.
        """
        if rows < 1:
            raise ConfigError(f"blocks: rows must be at least 1, not {rows}")
        return self._blocks(rows)

    def _blocks(self, rows: int) -> Iterator[Block]:
        fill = self.start()
        while True:
            block = Block(np.empty((rows, self.schema.n_features), np.float32), np.empty(rows, np.int32))
            fill(block.x, block.y)
            yield block


class DriftSchedule:
    """Which of four concepts each event comes from.

    The concepts are nested: the last drift chooses between concept 3 and everything before it, and an inner
    drift counts, and draws a random number for, only the events that reach it.
    """

    def __init__(self, pace: str, ramp: str) -> None:
        self._width, self._positions = PACES[pace]
        self._counts = [0] * len(self._positions)
        self._ramp = _capymoa_ramp if ramp == "capymoa" else _moa_ramp
        # Both systems seed every drift with 1, whatever the seed of the concepts.
        self._uniforms = [_python_uniforms(1) if ramp == "capymoa" else _java_uniforms(1) for _ in self._positions]

    def draw(self, n: int) -> npt.NDArray[np.int8]:
        """Return int8 [n], the concepts of the next n events."""
        concepts = np.zeros(n, np.int8)
        left = np.arange(n)
        for drift in reversed(range(len(self._positions))):
            number = self._counts[drift] + np.arange(1, len(left) + 1)
            self._counts[drift] += len(left)
            after = self._uniforms[drift](len(left)) <= self._ramp(number, self._positions[drift], self._width)
            concepts[left[after]] = drift + 1
            left = left[~after]
        return concepts


def _moa_ramp(number: Int64, position: int, width: int) -> Float64:
    with np.errstate(over="ignore"):
        return np.asarray(1.0 / (1.0 + np.exp(-4.0 * (number - position) / width)))


def _capymoa_ramp(number: Int64, position: int, width: int) -> Float64:
    progress = (number - (position - width / 2)) / width
    inside = np.clip(progress, 0.0, 1.0)
    ramp = 1.0 / (1.0 + np.exp(-2.0 * math.log(99.0) * (inside - 0.5)))
    return np.where(progress <= 0.0, 0.0, np.where(progress >= 1.0, 1.0, ramp))


def _python_uniforms(seed: int) -> Callable[[int], Float64]:
    """Return what `random.Random(seed).random` would give, as arrays: both are MT19937 with 53 bits."""
    key = random.Random(seed).getstate()[1]
    twister = np.random.RandomState()
    twister.set_state(("MT19937", np.array(key[:-1], np.uint32), key[-1], 0, 0.0))
    return twister.random_sample


def _java_uniforms(seed: int) -> Callable[[int], Float64]:
    state = java_random.seeded(seed)
    return lambda n: java_random.doubles(state, n)


def _one_concept(n: int) -> npt.NDArray[np.int8]:
    return np.zeros(n, np.int8)


def _led(seed: int, pace: str, ramp: str) -> Fill:
    draw = DriftSchedule(pace, ramp).draw if pace else _one_concept
    segments = np.array([[int(bit) for bit in digit] for digit in SEGMENTS.split()], np.int8)
    columns = np.tile(np.arange(24, dtype=np.int8), (len(LED_DRIFTING), 1))
    for concept, drifting in enumerate(LED_DRIFTING):  # the first segments change places with noise bits
        columns[concept, :drifting] += 7
        columns[concept, 7 : 7 + drifting] -= 7
    state = java_random.seeded(seed, len(LED_DRIFTING))
    return lambda x, y: kernels.fill_led(draw(len(y)), state, segments, columns, x, y)


def _sea(seed: int, pace: str, ramp: str) -> Fill:
    draw = DriftSchedule(pace, ramp).draw if pace else _one_concept
    thresholds = np.array([SEA_THRESHOLDS[function - 1] for function in SEA_FUNCTIONS])
    state = java_random.seeded(seed, len(SEA_FUNCTIONS))
    return lambda x, y: kernels.fill_sea(draw(len(y)), state, thresholds, x, y)


def _rbf(seed: int, n_classes: int, speed: float) -> Fill:
    centres, velocity = np.empty((RBF_CENTRES, 10)), np.empty((RBF_CENTRES, 10))
    deviations, weights = np.empty(RBF_CENTRES), np.empty(RBF_CENTRES)
    labels = np.empty(RBF_CENTRES, np.int32)
    model = java_random.seeded(seed, 2)
    kernels.build_rbf(model, n_classes, centres, velocity, labels, deviations, weights, speed)
    state, spare = java_random.seeded(seed), np.full(1, np.nan)
    return lambda x, y: kernels.fill_rbf(state, spare, centres, velocity, labels, deviations, weights, x, y)


def led_bayes_accuracy(noise: float) -> float:
    """Return the accuracy of the most probable digit, given seven segments each wrong with probability `noise`.

    Examples
    --------
    >>> round(led_bayes_accuracy(0.1), 4)
    0.74
    """
    digits = np.array([[int(bit) for bit in digit] for digit in SEGMENTS.split()])
    patterns = np.arange(2**7)[:, None] >> np.arange(7) & 1
    wrong = (patterns[:, None] != digits).sum(2)
    return float((noise**wrong * (1 - noise) ** (7 - wrong)).max(1).sum() / len(digits))


def generate(name: str, seed: int) -> GeneratedStream:
    """Return the generated stream `name` of `stream_moe.streams.GENERATED`, or one with `_moa` appended."""
    base, ramp = (name.removesuffix("_moa"), "moa") if name.endswith("_moa") else (name, "capymoa")
    kind, _, variant = base.partition("_")
    if kind == "led":
        return GeneratedStream(name, LED_SCHEMA, lambda: _led(seed, variant, ramp), led_bayes_accuracy(0.1))
    if kind == "sea":
        return GeneratedStream(name, SEA_SCHEMA, lambda: _sea(seed, variant, ramp), 0.9)
    n_classes = int(variant[1:] or 2)
    schema = Schema.numeric(10, [f"class{k + 1}" for k in range(n_classes)], [f"att{j + 1}" for j in range(10)])
    return GeneratedStream(name, schema, lambda: _rbf(seed, n_classes, RBF_SPEEDS[variant[0]]))
