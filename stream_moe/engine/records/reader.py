"""The compiled reader of a form for a schema as it is now, and for members that are no features."""

from __future__ import annotations

from typing import Any

from stream_moe.engine.inputs import LONGEST_NAME, MOST_NAMES, InputCounts
from stream_moe.engine.records.forms import Decoder, Form, Read
from stream_moe.types import Schema


class RecordReader:
    """Reads records at once, and learns to read members that are ignored as fast as it skips them.

    Parameters
    ----------
    form, decoder
        Of the records.
    inputs
        Counts the ignored members; changed. None = nobody asks.

    Attributes
    ----------
    exact
        Names of features whose dots are no path.
    """

    def __init__(self, form: Form, decoder: Decoder, inputs: InputCounts | None) -> None:
        self._form, self._decoder, self._inputs = form, decoder, inputs
        self.exact: frozenset[str] = frozenset()
        self._ignored: dict[str, bool] = {}  # members that are no features, and whether only null and arrays are not
        self._unreadable: set[str] = set()  # of which no reader can be compiled
        self._as_read: tuple[str, ...] = ()
        self._seen: list[tuple[Any, ...]] = []  # those members of each record
        self._read: Read | None = None
        self._schema: Schema | None = None
        self.alone = form.compiled_label(decoder)

    def for_schema(self, schema: Schema) -> Read | None:
        """Return the reader for a schema; None where none can be compiled."""
        if schema is not self._schema:
            self._compile(schema)
        return self._read

    def saw(self, members: tuple[Any, ...]) -> None:
        """Count what a record had of the ignored members."""
        self._seen.append(members)

    def ignore(self, name: str, *, lists_only: bool = False) -> None:
        """Read a member as one that is ignored: whatever it is, or where it is null or an array."""
        fits = len(name) < LONGEST_NAME and name not in self._unreadable and len(self._ignored) < MOST_NAMES
        if fits and self._ignored.get(name, True) and self._ignored.get(name) != lists_only:
            self._ignored[name] = lists_only
            self._schema = None

    def find_exact(self, names: set[str]) -> None:
        """Note names with dots that are no paths."""
        if names - self.exact:
            self.exact |= names
            self._schema = None

    def end_block(self, *, learn: bool) -> None:
        """Count the ignored members of the block; learn to read those that are counted, where all are ignored."""
        self._count()
        if self._inputs is not None and learn:
            for name in self._inputs.names:
                self.ignore(name)

    def _count(self) -> None:
        if self._inputs is not None and self._seen:
            for name, column in zip(self._as_read, zip(*self._seen, strict=True), strict=True):
                if n := len(column) - column.count(None):
                    self._inputs.count_names([name], n)
        self._seen = []

    def _compile(self, schema: Schema) -> None:
        self._count()
        self._schema = schema
        ignored = {name: each for name, each in self._ignored.items() if name not in schema.feature_index}
        self._read = self._form.compiled(schema, self._types(ignored), self.exact, self._decoder)
        if self._read is None and ignored:
            can = [name for name in ignored if self._can_read(schema, name)]
            self._unreadable |= ignored.keys() - can
            ignored = {name: ignored[name] for name in can}
            self._read = self._form.compiled(schema, self._types(ignored), self.exact, self._decoder)
        self._ignored, self._as_read = ignored, tuple(ignored)

    def _can_read(self, schema: Schema, name: str) -> bool:
        return self._form.compiled(schema, self._types({name: False}), self.exact, self._decoder) is not None

    def _types(self, ignored: dict[str, bool]) -> dict[str, Any]:
        anything = self._decoder.skipped
        return {name: list[anything] | None if lists_only else anything for name, lists_only in ignored.items()}  # type: ignore[valid-type]
