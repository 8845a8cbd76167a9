"""River's streams whose target is a number: its packaged data, and its generators as they are."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError, DataError
from stream_moe.ports import Stream
from stream_moe.streams.files import FileStream
from stream_moe.target import Target
from stream_moe.types import Block, Feature, Schema

FIRST = datetime.fromisoformat("2022-03-20T11:00:00+01:00")
Event = tuple[dict[str, Any], float]


def _as_they_are(x: dict[str, Any]) -> list[Any]:
    return list(x.values())


def _hours(x: dict[str, Any]) -> list[float]:
    """Hours since the first event of water-flow, hour of the day, day of the week."""
    time: datetime = x["Time"]
    return [(time - FIRST).total_seconds() / 3600, time.hour, time.weekday()]


def _month(x: dict[str, Any]) -> list[float]:
    return [x["month"].year, x["month"].month]


@dataclass(frozen=True)
class Packaged:
    """Data of river's package: its class, the target, the columns' names (None = river's), and how a row is made."""

    source: str
    target: Target
    columns: Sequence[str] | None = None
    row: Callable[[dict[str, Any]], list[Any]] = _as_they_are


PACKAGED = {
    "trump-approval": Packaged("TrumpApproval", Target("five_thirty_eight", "%")),
    "water-flow": Packaged("WaterFlow", Target("Flow", "l/s"), ("hours", "hour", "weekday"), _hours),
    "chick-weights": Packaged("ChickWeights", Target("weight", "g")),
    "airline-passengers": Packaged("AirlinePassengers", Target("passengers", "1,000"), ("year", "month"), _month),
}


def _drifting(kind: str, **given: Any) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        from river.datasets import synth

        return synth.FriedmanDrift(drift_type=kind, seed=seed, **given)

    return make


def _plain(name: str) -> Callable[[int], Any]:
    def make(seed: int) -> Any:
        from river.datasets import synth

        return getattr(synth, name)(seed=seed)

    return make


GENERATED: dict[str, Callable[[int], Any]] = {
    "friedman": _plain("Friedman"),
    "friedman-lea": _drifting("lea", position=(25_000, 50_000, 75_000)),
    "friedman-gra": _drifting("gra", position=(35_000, 75_000)),
    "friedman-gsg": _drifting("gsg", position=(35_000, 75_000), transition_window=10_000),
    "planes2d": _plain("Planes2D"),
    "mv": _plain("Mv"),
}


@dataclass(frozen=True)
class RiverStream:
    """An endless stream of a generator of river's; each call of `blocks` starts anew."""

    name: str
    schema: Schema
    make: Callable[[], Any]

    @property
    def n_events(self) -> None:
        """It is endless."""

    @property
    def bayes_accuracy(self) -> None:
        """There are no classes."""

    def blocks(self, rows: int) -> Iterator[Block]:
        """Yield blocks of `rows` events without end; ConfigError if `rows` is below 1."""
        if rows < 1:
            raise ConfigError(f"blocks: rows must be at least 1, not {rows}")
        events = iter(self.make())
        while True:
            yield Block(*_arrays(self.schema, list(itertools.islice(events, rows)), _as_they_are))


def open_numbers(name: str, seed: int) -> Stream:
    """Open a stream of `registry.NUMBERS`: packaged data whole, a generator without end.

    Examples
    --------
    >>> stream = open_numbers("water-flow", seed=1)
    >>> stream.n_events, stream.schema.target.name, [f.name for f in stream.schema.features]
    (1268, 'Flow', ['hours', 'hour', 'weekday'])
    """
    if name in PACKAGED:
        from river import datasets

        known = PACKAGED[name]
        events = list(getattr(datasets, known.source)())
        schema = _schema(events, known.row, known.columns, known.target)
        return FileStream(name, schema, *_arrays(schema, events, known.row))
    make = GENERATED[name]
    first = list(itertools.islice(iter(make(seed)), 256))
    return RiverStream(name, _schema(first, _as_they_are, None, Target("y")), lambda: make(seed))


def _schema(events: Sequence[Event], row: Any, columns: Sequence[str] | None, target: Target) -> Schema:
    """Make the schema of events: text is nominal, with the categories that are in them."""
    names = columns or [str(name) for name in events[0][0]]
    values = zip(*(row(x) for x, _ in events), strict=True)
    features = [
        Feature(name, tuple(sorted(set(column))) if isinstance(column[0], str) else None)
        for name, column in zip(names, values, strict=True)
    ]
    return Schema(tuple(features), target=target)


def _arrays(schema: Schema, events: Sequence[Event], row: Any) -> tuple[Any, Any]:
    """Return x float32 [n, d] and y float64 [n] of events."""
    x = np.empty((len(events), schema.n_features), np.float32)
    for t, (found, _) in enumerate(events):
        for j, (value, known) in enumerate(zip(row(found), schema.category_index, strict=True)):
            if known is not None and value not in known:
                raise DataError(f"{schema.features[j].name}: {value!r} was not among the first events")
            x[t, j] = value if known is None else known[value]
    return x, np.array([y for _, y in events], np.float64)
