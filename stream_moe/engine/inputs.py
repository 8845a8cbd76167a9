"""What the records of a partition bring beside, and instead of, what the schema has: a producer that broke is seen.

Three things are counted. *Unknown names*, members that are no feature: they are ignored, as producers grow columns
before models do. *Unknown categories*, values of a nominal feature that its schema does not list: they are missing.
And *missing values* of each feature, in windows of 1,000 events. A feature is **gone** where the share of missing
values in a window is more than a half above the usual one, or where there is no value at all although 20 were to be
expected. What is usual is the mean of all windows in which it was not gone, so it stays gone until it comes back. A
feature that never had a value is gone as soon as there are unknown names: it probably comes under one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from stream_moe.engine.fields import is_text, shown
from stream_moe.ranges import COUNT, SHARE, Range, index, number
from stream_moe.report import InputReport
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Float32, Int64, Schema

MOST_NAMES = 100  # that are kept apart; the rest is counted together
LONGEST_NAME = 100  # characters that are kept of one
WINDOW = 1000  # events
RISE = 0.5  # of the share of missing values, from which on a feature is gone
EXPECTED = 20  # values of a window that were to be expected, from which on none at all is no chance
MOST_TOLD = 8  # names in one line of the log


class InputCounts:
    """Counts of one partition; a checkpoint holds them, and no digest.

    Parameters
    ----------
    schema
        Of the records.

    Attributes
    ----------
    names
        Records by unknown name, the first 100 names that came.
    others
        How often names beyond those came.
    categories
        int64 [d], values of each nominal feature that are none of its categories.

    Examples
    --------
    >>> counts = InputCounts(Schema.numeric(2, ["no", "yes"]))
    >>> counts.update(np.zeros((1000, 2), np.float32))
    >>> counts.update(np.full((1000, 2), [0, np.nan], np.float32))
    >>> counts.count_names(["load"])
    >>> counts.report().gone, counts.report().missing.tolist()
    (('x1',), [0.0, 1.0])
    >>> for line in counts.news():
    ...     print(line)
    'load' is no feature of the schema: ignored
    features gone: 'x1' (missing in 1,000 of the latest 1,000 events, usually in 0%)
    """

    def __init__(self, schema: Schema) -> None:
        self._features = tuple(feature.name for feature in schema.features)
        self._schema = schema
        d = schema.n_features
        self.names: dict[str, int] = {}
        self.others = 0
        self.categories: Int64 = np.zeros(d, np.int64)
        self._events = 0  # of the window under way
        self._missing: Int64 = np.zeros(d, np.int64)  # in it
        self._latest: Int64 = np.full(d, -1)  # in the window before, -1 = there was none
        self._usual: Int64 = np.zeros((2, d), np.int64)  # missing values and events of the windows that were usual
        self._gone = np.zeros(d, np.bool_)
        self._never = np.ones(d, np.bool_)  # had no value yet
        self._told: set[str] = set()  # features, of which it was said that they are gone
        self._news: list[str] = []
        self._new_names: list[str] = []
        self._report: InputReport | None = None

    def grow(self, schema: Schema) -> None:
        """Go on under a schema that grew: a new feature was missing so far, and is no unknown name any more."""
        old, new = self._schema.n_features, schema.n_features
        self._schema, self._features = schema, tuple(feature.name for feature in schema.features)
        self.categories = np.pad(self.categories, (0, new - len(self.categories)))
        self._missing = np.pad(self._missing, (0, new - old), constant_values=self._events)
        self._latest = np.pad(self._latest, (0, new - old), constant_values=-1)
        self._usual = np.pad(self._usual, ((0, 0), (0, new - old)))
        self._gone = np.pad(self._gone, (0, new - old))
        self._never = np.pad(self._never, (0, new - old), constant_values=True)
        self.names = {name: n for name, n in self.names.items() if name not in schema.feature_index}
        self._report = None

    # ---- counting

    def count_names(self, names: Iterable[str], times: int = 1) -> None:
        """Count names of members of so many records; those of features are left out."""
        known = self._schema.feature_index
        for name in names:
            if name in known:
                continue
            kept = name[:LONGEST_NAME] if is_text(name) else ascii(name)[:LONGEST_NAME]
            if kept in self.names:
                self.names[kept] += times
            elif len(self.names) < MOST_NAMES:
                self.names[kept] = times
                self._new_names.append(kept)
            else:
                if not self.others:
                    self._news.append(f"more than {MOST_NAMES} names are no features; the rest is counted together")
                self.others += times
        self._report = None

    def count_categories(self, j: int, values: int, first: Any) -> None:
        """Count values of a nominal feature that are none of its categories; `first` is one of them."""
        if j >= len(self.categories):  # of a feature that the block brought
            self.categories = np.pad(self.categories, (0, j + 1 - len(self.categories)))
        if not self.categories[j]:
            name = shown(self._features[j]) if j < len(self._features) else f"number {j + 1}"
            self._news.append(f"feature {name}: {shown(first)} is none of its categories: taken as missing")
        self.categories[j] += values
        self._report = None

    def update(self, x: Float32) -> None:
        """Count the missing values of events, float32 [n, d]; the windows do not depend on the blocks."""
        start = 0
        if self._schema.sparse:  # what is not there is 0, and not missing
            return
        while start < len(x):
            part = x[start : start + WINDOW - self._events]
            missing = np.isnan(part)
            if missing.any():
                self._missing += np.count_nonzero(missing, axis=0)
            self._events += len(part)
            start += len(part)
            if self._events == WINDOW:
                self._turn()

    def _turn(self) -> None:
        """Judge the window that is full, and begin the next."""
        missing, (usual, events) = self._missing, self._usual
        share = usual / np.maximum(events, 1)
        rises = missing / WINDOW - share > RISE
        stops = (missing == WINDOW) & ((1 - share) * WINDOW >= EXPECTED)
        gone = (events > 0) & (rises | stops)
        self._never &= missing == WINDOW
        self._tell(gone & ~self._gone, missing, share)
        self._gone = gone
        self._usual += np.where(gone, 0, np.stack([missing, np.full_like(missing, WINDOW)]))
        self._latest, self._missing, self._events = missing, np.zeros_like(missing), 0
        self._report = None

    def _tell(self, new: Any, missing: Int64, share: Any) -> None:
        """Note which features are gone now, each once."""
        found = [j for j in np.flatnonzero(new).tolist() if self._features[j] not in self._told]
        self._told |= {self._features[j] for j in found}
        if found:
            each = [
                f"{shown(self._features[j])} (missing in {missing[j]:,} of the latest {WINDOW:,} events, usually in "
                f"{share[j]:.0%})"
                for j in found
            ]
            self._news.append(f"features gone: {_some(each)}")

    # ---- telling

    def news(self) -> Iterator[str]:
        """Yield what is new since this was last asked, a line each."""
        names, self._new_names = self._new_names, []
        news, self._news = self._news, []
        if names:
            one = len(names) == 1
            what = "is no feature" if one else "are no features"
            yield f"{_some([shown(name) for name in names])} {what} of the schema: ignored"
        yield from news

    def report(self) -> InputReport:
        """Return what was counted; nobody changes it afterwards."""
        if self._report is None:
            self._report = InputReport(
                features=self._features,
                names=dict(self.names),
                other_names=self.others,
                missing=np.where(self._latest < 0, np.nan, self._latest / WINDOW),
                gone=tuple(self._features[j] for j in np.flatnonzero(self._are_gone()).tolist()),
                categories=self.categories.copy(),
            )
        return self._report

    def _are_gone(self) -> Any:
        return self._gone | self._never & (self._latest == WINDOW) if self.names else self._gone

    # ---- keeping

    def snapshot(self) -> Snapshot:
        """Return the counts, as a checkpoint has them."""
        plain = {"names": dict(self.names), "others": self.others, "events": self._events}
        return {name: array.copy() for name, array in self._arrays().items()}, plain

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from what `snapshot` gave."""
        arrays, plain = snapshot
        window = Range(-1, WINDOW)
        ranges = {
            "categories": COUNT,
            "missing": window,
            "latest": window,
            "usual": COUNT,
            "gone": SHARE,
            "never": SHARE,
        }
        fill(self._arrays(), arrays, "inputs", ranges)
        names = dict(list(plain["names"].items())[:MOST_NAMES])
        self.names = {name: number("inputs, names", names, name) for name in names}
        self.others = number("inputs", plain, "others")
        self._events = number("inputs", plain, "events", index(WINDOW))
        self._told = {self._features[j] for j in np.flatnonzero(self._gone).tolist()}
        self._news, self._new_names, self._report = [], [], None

    def _arrays(self) -> dict[str, Any]:
        return {
            "categories": self.categories, "missing": self._missing, "latest": self._latest, "usual": self._usual,
            "gone": self._gone, "never": self._never,
        }  # fmt: skip


def _some(each: list[str]) -> str:
    """List the first ones, and say how many more there are."""
    left = len(each) - MOST_TOLD
    return ", ".join(each[:MOST_TOLD]) + (f" and {left:,} more" if left > 0 else "")
