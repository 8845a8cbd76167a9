"""Counting records that could not be used, and saying so while there are few."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from stream_moe.types import DeadLetter

_log = logging.getLogger(__name__)


def count_dead(counts: Counter[str], partition: int, dead: Sequence[DeadLetter], *, quiet: bool = False) -> None:
    """Count dead letters by reason; warn of the first of a reason, and of the 10th, the 100th, the 1,000th.

    Parameters
    ----------
    counts
        Changed: by reason, of the whole log.
    partition
        Named in the warning.
    dead
        Of one block.
    quiet
        Only count: a replay finds them again.

    Examples
    --------
    >>> counts = Counter()
    >>> count_dead(counts, 0, [DeadLetter(7, 0, None, b"{", "decode", "bad-json", "x: no JSON")] * 3, quiet=True)
    >>> counts
    Counter({'bad-json': 3})
    """
    for letter in dead:
        counts[letter.reason] += 1
        n = counts[letter.reason]
        if not quiet and n == 10 ** (len(str(n)) - 1):
            count = f"its {n:,}th" if n > 1 else "its first"
            _log.warning(
                "partition %d: dead letter, %s for this reason, offset %d%s: %s: %s",
                partition, count, letter.offset, f" of {letter.topic!r}" if letter.topic else "", letter.reason,
                letter.message,
            )  # fmt: skip
