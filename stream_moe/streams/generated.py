"""The generated streams, event for event those of MOA.

LED: Breiman et al., Classification and Regression Trees, 1984. SEA: Street and Kim, KDD 2001. Random RBF and the
composition of drifts: Bifet et al., MOA, JMLR 11, 2010. Hyperplane: Hulten, Spencer and Domingos, KDD 2001. Sine and
mixed: Gama et al., SBIA 2004. STAGGER: Schlimmer and Granger, Machine Learning 1, 1986. Agrawal and random trees have
files of their own. Given one seed the arrays equal MOA's bit for bit (after rounding to float32);
`tests/parity` checks it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.streams import kernels
from stream_moe.streams.agrawal import fill_agrawal
from stream_moe.streams.drifts import Draw, schedule
from stream_moe.streams.java_random import doubles, seeded
from stream_moe.streams.random_tree import draw_tree, fill_tree
from stream_moe.streams.specs import parse
from stream_moe.types import Block, Feature, Float32, Int32, Schema

Fill = Callable[[Float32, Int32], None]
"""Writes the next events into x [n, d] and y [n]."""

SEA_THRESHOLDS = (8.0, 9.0, 7.0, 9.5)
_DIGITS = "1110111 0010010 1011101 1011011 0111010 1101011 1101111 1010010 1111111 1111011"
SEGMENTS = np.array([[int(bit) for bit in digit] for digit in _DIGITS.split()], np.int8)


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
        """Yield blocks of `rows` events without end; each call starts anew. ConfigError if `rows` is below 1."""
        if rows < 1:
            raise ConfigError(f"blocks: rows must be at least 1, not {rows}")
        fill = self.start()

        def block() -> Block:
            new = Block(np.empty((rows, self.schema.n_features), np.float32), np.empty(rows, np.int32))
            fill(new.x, new.y)
            return new

        return (block() for _ in itertools.count())


def generate(text: str, seed: int) -> GeneratedStream:
    """Return the generated stream that `text` names, with its options (see `stream_moe.streams.specs`)."""
    spec = parse(text, seed)
    generator = GENERATORS[spec.generator]
    rates = {generator.bayes_accuracy(**concept) for concept in spec.concepts}
    rate = rates.pop() if len(rates) == 1 else None

    def start() -> Fill:
        fills = [generator.start(**concept) for concept in spec.concepts]
        return _composed(fills, schedule(spec.drifts, len(fills))) if spec.drifts else fills[0]

    start()  # options that do not fit each other fail here, not at the first block
    return GeneratedStream(text, generator.schema(**spec.concepts[0]), start, rate)


def _composed(fills: list[Fill], draw: Draw) -> Fill:
    """Let each concept write the events that are drawn from it, in their order."""

    def fill(x: Float32, y: Int32) -> None:
        concepts = draw(len(y))
        present = np.unique(concepts) if (concepts != concepts[0]).any() else concepts[:1]
        if len(present) == 1:
            fills[present[0]](x, y)
            return
        for concept in present:
            at = np.flatnonzero(concepts == concept)
            part_x, part_y = np.empty((len(at), x.shape[1]), np.float32), np.empty(len(at), np.int32)
            fills[concept](part_x, part_y)
            x[at], y[at] = part_x, part_y

    return fill


@dataclass(frozen=True)
class Generator:
    """What a name of `specs.GENERATORS` stands for; each function takes the options of one concept by name."""

    schema: Callable[..., Schema]
    start: Callable[..., Fill]
    bayes_accuracy: Callable[..., float | None]


def _numbered(prefix: str, n: int) -> list[str]:
    return [f"{prefix}{i + 1}" for i in range(n)]


def _percent(share: float) -> int:
    return round(share * 100)


def _by(kernel: Callable[..., None], *names: str) -> Callable[..., Fill]:
    """Start a generator that keeps no more than its random numbers, and whose kernel takes these options."""

    def start(seed: int, **options: Any) -> Fill:
        random, given = seeded(seed), [options[name] for name in names]
        return lambda x, y: kernel(random, *given, x, y)

    return start


def _led_schema(**_: Any) -> Schema:
    return Schema(tuple(Feature(name, ("0", "1")) for name in _numbered("att", 24)), tuple("0123456789"))


def _led(seed: int, drifting: int, noise: float) -> Fill:
    columns = np.arange(24, dtype=np.int8)
    columns[:drifting] += 7  # the first segments change places with noise bits
    columns[7 : 7 + drifting] -= 7
    random, percent = seeded(seed), _percent(noise)
    return lambda x, y: kernels.fill_led(random, SEGMENTS, columns, percent, x, y)


def led_bayes_accuracy(noise: float, **_: Any) -> float:
    """Return the accuracy of the most probable digit, given seven segments each wrong with probability `noise`.

    Examples
    --------
    >>> round(led_bayes_accuracy(0.1), 4)
    0.74
    """
    patterns = np.arange(2**7)[:, None] >> np.arange(7) & 1
    wrong = (patterns[:, None] != SEGMENTS).sum(2)
    return float((noise**wrong * (1 - noise) ** (7 - wrong)).max(1).sum() / len(SEGMENTS))


def _sea(seed: int, function: int, noise: float) -> Fill:
    random, threshold, percent = seeded(seed), SEA_THRESHOLDS[function - 1], _percent(noise)
    return lambda x, y: kernels.fill_sea(random, threshold, percent, x, y)


def _numeric(features: int, classes: Sequence[str], prefix: str = "att") -> Schema:
    return Schema.numeric(features, classes, _numbered(prefix, features))


def _rbf_schema(features: int, classes: int, **_: Any) -> Schema:
    return _numeric(features, _numbered("class", classes))


def _rbf(seed: int, centres: int, speed: float, features: int, classes: int, model: int) -> Fill:
    place, velocity = np.empty((centres, features)), np.empty((centres, features))
    deviations, weights = np.empty(centres), np.empty(centres)
    labels = np.empty(centres, np.int32)
    kernels.build_rbf(seeded(model, 2), classes, place, velocity, labels, deviations, weights, speed)
    random, spare = seeded(seed), np.full(1, np.nan)
    return lambda x, y: kernels.fill_rbf(random, spare, place, velocity, labels, deviations, weights, x, y)


def _agrawal_schema(**_: Any) -> Schema:
    levels, cars = tuple(f"level{i}" for i in range(5)), tuple(_numbered("car", 20))
    nominal = {"elevel": levels, "car": cars, "zipcode": tuple(_numbered("zipcode", 9))}
    names = ("salary", "commission", "age", "elevel", "car", "zipcode", "hvalue", "hyears", "loan")
    return Schema(tuple(Feature(name, nominal.get(name)) for name in names), ("groupA", "groupB"))


def _hyperplane(seed: int, features: int, drifting: int, speed: float, reversal: float, noise: float) -> Fill:
    random = seeded(seed)
    weights, directions = doubles(random, features), np.ones(features)
    changed, percents = min(drifting, features), (_percent(reversal), _percent(noise))
    return lambda x, y: kernels.fill_hyperplane(random, weights, directions, changed, speed, *percents, x, y)


def _tree_schema(nominal: int, numeric: int, values: int, classes: int, **_: Any) -> Schema:
    if nominal + numeric == 0:
        raise ConfigError("tree: nominal=0 and numeric=0; give the events at least one attribute")
    categories = tuple(_numbered("value", values))
    features = [Feature(name, categories) for name in _numbered("nominal", nominal)]
    features += [Feature(name) for name in _numbered("numeric", numeric)]
    return Schema(tuple(features), tuple(_numbered("class", classes)))


def _tree(seed: int, model: int, nominal: int, values: int, **shape: Any) -> Fill:
    tree, random = draw_tree(model, nominal=nominal, values=values, **shape), seeded(seed)
    return lambda x, y: fill_tree(random, nominal, values, tree.attribute, tree.threshold, tree.children, x, y)


def _mixed_schema(**_: Any) -> Schema:
    booleans = (Feature("v", ("0", "1")), Feature("w", ("0", "1")))
    return Schema((*booleans, Feature("x"), Feature("y")), ("positive", "negative"))


def _stagger_schema(**_: Any) -> Schema:
    values = {"size": "small medium large", "color": "red blue green", "shape": "circle square triangle"}
    return Schema(tuple(Feature(name, tuple(each.split())) for name, each in values.items()), ("false", "true"))


def _wrong_labels(noise: float, **_: Any) -> float:
    return max(noise, 1.0 - noise)


GENERATORS = {
    "led": Generator(_led_schema, _led, led_bayes_accuracy),
    "sea": Generator(lambda **_: _numeric(3, ["groupA", "groupB"], "attrib"), _sea, _wrong_labels),
    # The centres overlap, and by how much changes as they move.
    "rbf": Generator(_rbf_schema, _rbf, lambda **_: None),
    # A perturbed value no longer tells the group, and nobody has worked out how often.
    "agrawal": Generator(
        _agrawal_schema,
        _by(fill_agrawal, "function", "perturbation"),
        lambda perturbation, **_: None if perturbation else 1.0,
    ),
    "hyperplane": Generator(lambda features, **_: _rbf_schema(features, 2), _hyperplane, _wrong_labels),
    "tree": Generator(_tree_schema, _tree, lambda **_: 1.0),
    "sine": Generator(
        lambda irrelevant, **_: _numeric(2 + irrelevant, ["positive", "negative"]),
        _by(kernels.fill_sine, "function"),
        lambda **_: 1.0,
    ),
    "mixed": Generator(_mixed_schema, _by(kernels.fill_mixed, "function"), lambda **_: 1.0),
    "stagger": Generator(_stagger_schema, _by(kernels.fill_stagger, "function"), lambda **_: 1.0),
}
