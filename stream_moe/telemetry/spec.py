"""What a row of the metric table is: how it is read from a report, scraped, and shown on the page."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from stream_moe.report import GroupReport, PartitionReport
from stream_moe.telemetry.text import UNKNOWN
from stream_moe.types import Float64

Labels = tuple[str, ...]  # values, in the order of a metric's label names
Samples = Iterable[tuple[Labels, float | None]]
Reader = Callable[[PartitionReport], "Samples | float | None"]
GroupReader = Callable[[GroupReport], "Samples | float"]
Durations = Callable[[PartitionReport], Iterable[tuple[Labels, Sequence[float] | Float64]]]


@dataclass(frozen=True, slots=True)
class Shown:
    """A row of the page's table of all numbers."""

    name: str
    form: Callable[[float], str]
    labels: Labels = ()  # the samples whose label values begin so are added up; empty = all
    of_log: bool = False  # it means something only where a log is read, not in a replay of a stream


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One row of the table.

    A reader gives one value, or (label values, value) pairs. None and NaN are left out of the scrape: a gap means
    "unknown", a zero means "zero".
    """

    name: str  # in full, as scraped; a counter's ends in `_total`
    kind: str  # counter, gauge or histogram
    help: str
    labels: tuple[str, ...] = ()  # in the order of a reader's values; the renderer adds "partition" where it lacks
    read: Reader | None = None  # from a partition's report; None for a histogram and for what is of the group
    of_process: bool = False  # a counter that starts at zero with the process; others are part of the model's state
    read_group: GroupReader | None = None  # from the group's report, for what is not a partition's
    durations: Durations | None = None  # of a histogram: a block's report -> (label values, seconds) pairs to count
    bounds: tuple[float, ...] = ()  # of a histogram's buckets, in seconds
    page: Sequence[Shown] = ()  # the rows of the page's table of all numbers that show it

    @property
    def rank(self) -> int:
        """What goes first where there is no room for all partitions: 0 flow, 1 the model, 2 its inside."""
        if {"expert", "class", "feature"} & set(self.labels):
            return 2
        return 0 if "partition" in self.labels else 1

    def samples(self, report: PartitionReport) -> dict[Labels, float]:
        """Read what is known of a partition, without its number among the labels unless the metric has it."""
        return {} if self.read is None else known(self.read(report))

    def numbers(self, report: PartitionReport, is_replay: bool) -> Iterator[tuple[str, str]]:
        """Name and text of the rows that show it on the page."""
        samples = self.samples(report)
        for row in self.page:
            if is_replay and row.of_log:
                continue
            values = [value for labels, value in samples.items() if labels[: len(row.labels)] == row.labels]
            yield row.name, row.form(sum(values)) if values or self.kind == "counter" else UNKNOWN


def known(value: Samples | float | None) -> dict[Labels, float]:
    """Return what a reader gave as samples, without those that are not known."""
    pairs = [((), value)] if value is None or isinstance(value, int | float) else value
    return {labels: float(number) for labels, number in pairs if number is not None and math.isfinite(number)}
