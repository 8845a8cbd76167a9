"""What a committed block says of itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import msgspec

from stream_moe.errors import LogError

MOST_PARAMETERS = 3_500  # bytes


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What a committed block says of itself: beside the committed offset, and in the journal where there is one.

    Parameters
    ----------
    sequence
        Its number among the blocks of its partition, from 1.
    offset
        Of the next record of the input topic.
    labels
        Of the next record of the labels' topic; None without one.
    digest
        crc32 (hex) of all answers that the model has given so far: what differs in its state shows in them.
    fingerprint, parameters
        Of model, schema and settings, and what it was made from; only beside the offset, None of former versions.

    Examples
    --------
    >>> entry = JournalEntry(7, 120, 40, "0badcafe")
    >>> entry.position, JournalEntry.from_json(entry.to_json()) == entry
    (160, True)
    """

    sequence: int
    offset: int
    labels: int | None
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{8}$")]
    fingerprint: str | None = None
    parameters: dict[str, str] | None = None

    @property
    def pair(self) -> tuple[int, int]:
        """The two next offsets: of the input topic, and of the labels' topic (0 without one)."""
        return self.offset, self.labels or 0

    @property
    def position(self) -> int:
        """The partition's position: the sum of `pair`."""
        return sum(self.pair)

    def to_json(self) -> bytes:
        """Write the entry as JSON bytes, in at most 4,096, which is what Kafka takes; `from_json` reads them."""
        fits = len(json.dumps(self.parameters)) <= MOST_PARAMETERS
        return replace(self, parameters=self.parameters if fits else None)._json(self.__slots__)

    def brief(self) -> bytes:
        """Write what the journal needs of it."""
        return self._json(("sequence", "offset", "labels", "digest"))

    def _json(self, names: Sequence[str]) -> bytes:
        return json.dumps({name: getattr(self, name) for name in names}).encode()

    @classmethod
    def from_json(cls, text: bytes) -> JournalEntry:
        """Read what `to_json` wrote; LogError when it is not that."""
        try:
            return msgspec.json.decode(text, type=cls)
        except msgspec.MsgspecError as error:
            raise LogError(
                f"journal: {text[:80]!r} is no entry of one ({error}); name another topic with --journal"
            ) from None
