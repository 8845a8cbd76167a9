"""A schema from the first records of a log, where nobody gave one.

The rule, which a checkpoint's owner names: the first so many records of the events' topic, and then on to the first
label. The same records therefore give the same schema, whatever the blocks they come in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stream_moe.engine.codec import MAX_BYTES, object_of
from stream_moe.engine.fields import UnusableError, is_text, shown
from stream_moe.engine.inputs import LONGEST_NAME
from stream_moe.engine.records.forms import Form, Mapped, Native
from stream_moe.engine.records.growth import MOST_CLASSES, MOST_FEATURES
from stream_moe.engine.records.mapping import NATIVE_LABELS, FieldMapping
from stream_moe.errors import ConfigError
from stream_moe.rows import MAX_CATEGORIES
from stream_moe.streams.tables import vocabulary
from stream_moe.types import Feature, RecordBatch, Schema
from stream_moe.values import LONGEST_EXACT, is_missing, name_of, number_of, number_of_text, seconds_of_text

SCHEMA_RECORDS = 100
LEAST_RECORDS = 20  # of fewer, all may differ by chance


@dataclass(slots=True)
class _Values:
    """What the values of one member were so far."""

    numbers: int = 0
    times: int = 0
    decimals: int = 0  # texts that are numbers with a point, as a decimal is often written
    texts: int = 0
    others: int = 0  # arrays
    least: float = math.inf  # absolute value
    first: float = 0.0
    names: dict[str, None] = field(default_factory=dict)

    def take(self, value: Any) -> None:
        if is_missing(value):
            return
        if not isinstance(value, str | int | float):
            self.others += 1
            return
        number = number_of(value)
        if isinstance(value, str):
            plain = number_of_text(value)
            self.times += plain is None and seconds_of_text(value) is not None
            self.decimals += plain is not None and "." in value
            self.texts += (plain is None and seconds_of_text(value) is None) or (
                plain is not None and "." not in value
            )
        else:
            self.numbers += 1
        if number is not None and math.isfinite(number):
            self.first = number if self.least == math.inf else self.first
            self.least = min(self.least, abs(number))
        if len(self.names) < MAX_CATEGORIES and is_text(str(value)):
            self.names[name_of(value)] = None

    @property
    def present(self) -> int:
        return self.numbers + self.times + self.decimals + self.texts

    def feature(self, name: str) -> Feature | None:
        """Return what they make: a number where all are numbers, or all times, or all decimals; else a category."""
        if not self.present:
            return None
        if self.present in (self.numbers, self.times, self.numbers + self.decimals):
            return Feature(name, base=self.first if LONGEST_EXACT <= self.least < 1e300 else 0.0)
        return Feature(name, vocabulary(self.names)[0])


class SchemaLearner:
    """Learns a schema from the first records of a partition.

    Parameters
    ----------
    mapping, labels
        As of `RecordCodec`.
    apart
        Whether labels have a topic of their own.
    records
        How many records of the events' topic are looked at.
    read
        As of `RecordCodec`.

    Examples
    --------
    >>> import numpy as np
    >>> learner = SchemaLearner(FieldMapping("order", "fraud"), records=2)
    >>> values = [b'{"order":1,"amount":5}', b'{"order":2,"country":"FR"}', b'{"order":1,"fraud":"no"}']
    >>> learner.take(RecordBatch(np.arange(3), np.zeros(3, np.int64), [None] * 3, list(values), 3))
    >>> [(feature.name, feature.categories) for feature in learner.schema.features], learner.schema.classes
    ([('amount', None), ('country', ('FR',))], ('no',))
    """

    def __init__(
        self,
        mapping: FieldMapping | None = None,
        labels: FieldMapping | None = None,
        *,
        apart: bool = False,
        records: int = SCHEMA_RECORDS,
        read: Callable[[bytes], Mapping[str, Any]] = object_of,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._form: Form = Native() if mapping is None else Mapped(mapping)
        self._labels, self._apart = Mapped(labels or NATIVE_LABELS), apart
        self._wanted, self._read, self._max_bytes = records, read, max_bytes
        self._members: dict[str, _Values] = {}
        self._classes: dict[str, None] = {}
        self._first_label: str | None = None  # of the labels' topic
        self.records = self.usable = 0
        self.unusable = ""  # why the first one was

    @property
    def ready(self) -> bool:
        """Whether there is a schema."""
        enough = self.records >= self._wanted and any(each.present for each in self._members.values())
        return enough and bool(self._classes or self._first_label is not None)

    def take(self, batch: RecordBatch) -> None:
        """Look at a batch's records, as far as they are wanted."""
        for value in batch.labels.values if batch.labels is not None else ():
            if self._first_label is None:
                self._take_label(value)
        for value in batch.values:
            if self.ready or (self._apart and self.records >= self._wanted):
                return
            self.records += 1
            self._take(value)

    def _take(self, value: bytes | None) -> None:
        try:
            if value is None or len(value) > self._max_bytes:
                return
            picked = self._form.pick(self._read(value), None)
        except UnusableError as why:
            self.unusable = self.unusable or f"{why.args[0]}: {why.args[1]}"
            return
        self.usable += 1
        for name, each in picked.features.items():
            if len(name) < LONGEST_NAME and is_text(name):
                self._members.setdefault(name, _Values()).take(each)
        self.know_class(picked.label)

    def know_class(self, label: Any) -> None:
        """Take a label; ConfigError where there are too many different ones."""
        if _is_label(label):
            self._classes[name_of(label)] = None
            if len(self._classes) > MOST_CLASSES:
                raise ConfigError(
                    f"schema: the label {shown(self._form.label)} has more than {MOST_CLASSES} values in "
                    f"{self.records:,} records: probably a number to predict, not a class; name another field"
                )

    def _take_label(self, value: bytes | None) -> None:
        try:
            label = None if value is None else self._labels.pick(self._read(value), None).label
        except UnusableError as why:
            self.unusable = self.unusable or f"{why.args[0]}: {why.args[1]}"
            return
        if _is_label(label):
            self._first_label = name_of(label)

    @property
    def lacks(self) -> str:
        """What is not there yet that a schema takes."""
        if self.records < self._wanted:
            return f"{self.records:,} of the {self._wanted:,} records from which the schema is learnt"
        if not any(each.present for each in self._members.values()):
            why = f", the first as it was unusable ({self.unusable})" if self.unusable else ""
            return f"{self.records:,} records, and none has a value of a feature{why}"
        return f"{self.records:,} records, and no label among them"

    @property
    def schema(self) -> Schema:
        """The schema: features and categories by name, numbers as numbers. To be asked when `ready`."""
        found = [self._members[name].feature(name) for name in sorted(self._members)]
        features = [feature for feature in found if feature is not None][:MOST_FEATURES]
        classes = vocabulary(self._classes)[0] if self._classes else (str(self._first_label),)
        return Schema(tuple(features), classes)

    def told(self) -> Iterator[str]:
        """Say what of the records is no feature, and what looks like none."""
        features = {feature.name: feature for feature in self.schema.features}
        for name in sorted(self._members):
            values = self._members[name]
            if values.others and not values.present:
                yield f"{shown(name)} holds arrays: it is no feature"
            elif name not in features and values.present:
                yield f"{shown(name)} is left out: a schema is learnt of {MOST_FEATURES} features at most"
            elif values.numbers and values.texts:
                yield f"{shown(name)} holds numbers and text: taken as a category"
            elif values.texts and values.present >= LEAST_RECORDS and len(values.names) == values.present:
                yield f"{shown(name)} has as many values as records: an identifier? --drop {name} leaves it out"


def _is_label(value: Any) -> bool:
    return isinstance(value, str | int | float) and not is_missing(value) and is_text(str(value))
