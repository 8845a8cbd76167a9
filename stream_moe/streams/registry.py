"""The registry of named data sets: what each of them is, and who has it."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Literal

DATA_VARIABLE = "STREAM_MOE_DATA"
SUFFIXES = (".csv.xz", ".csv.gz", ".csv", ".arff", ".arff.gz", ".parquet", ".npz")
NOMINAL = ("carrier", "origin", "dest", "day_of_week", "Airline", "AirportFrom", "AirportTo", "DayOfWeek")


@dataclass(frozen=True, slots=True)
class DataSet:
    """A named data set; `data_sets.toml` says what its fields are."""

    name: str
    events: int
    features: int
    classes: int
    licence: str
    source: str
    loader: Literal["package", "river", "sklearn"] | None = None
    key: tuple[str, ...] = ()
    sha256: str | None = None


_TABLE = tomllib.loads(resources.files(__package__).joinpath("data_sets.toml").read_text(encoding="utf-8"))
DATA_SETS = {name: DataSet(name, **facts | {"key": tuple(facts.get("key", ()))}) for name, facts in _TABLE.items()}
# Streams of river's whose target is a number (`stream_moe.streams.river_numbers`): data, then generators.
NUMBERS = (
    "trump-approval", "water-flow", "chick-weights", "airline-passengers", "friedman", "friedman-lea", "friedman-gra",
    "friedman-gsg", "planes2d", "mv",
)  # fmt: skip
IN_RIVER = frozenset(["Phishing", "Bananas", "ImageSegments"])  # data that is part of river's own package


def by_hand(data_set: DataSet) -> str:
    """Say how a user makes a data set known."""
    folder = os.environ.get(DATA_VARIABLE)
    where = f"in {DATA_VARIABLE}={folder}" if folder else f"in a directory that {DATA_VARIABLE} names"
    return f"put {data_set.name}.csv.xz (or {', '.join(SUFFIXES[1:])}) {where}; it is {data_set.source}"
