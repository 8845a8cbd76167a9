"""Numbers as people write them, and as float32 holds them."""

from __future__ import annotations

import re
from typing import Any, Literal

import numpy as np

from stream_moe.types import Float64
from stream_moe.values import LONGEST_EXACT

Form = Literal["thousands", "decimal"]
_SIGNS = re.compile(r"[$€£¥₹%\s\u00a0\u202f]")
# No number with thousands begins with 0: 0,095 is a decimal.
_THOUSANDS = re.compile(r"[-+]?(?:[1-9]\d{0,2}([,'])\d{3}(?:\1\d{3})*|\d+)(?:\.\d+)?")
_DECIMAL = re.compile(r"[-+]?(?:[1-9]\d{0,2}(?:\.\d{3})+|\d+)(?:,\d+)?(?:[eE][-+]?\d+)?")


def number_in(text: str, form: Form) -> float | None:
    """Read a number with a currency, a per cent sign, or separators of one form; None where it is none.

    Examples
    --------
    >>> number_in("$2,986.93", "thousands"), number_in("2.986,93 €", "decimal"), number_in("12 %", "thousands")
    (2986.93, 2986.93, 12.0)
    >>> number_in("3,14", "thousands"), number_in("3,14", "decimal"), number_in("12/5", "decimal")
    (None, 3.14, None)
    >>> number_in("0,095", "thousands"), number_in("0,095", "decimal"), number_in("$2986.93", "thousands")
    (None, 0.095, 2986.93)
    """
    bare = _SIGNS.sub("", text)
    if bare.startswith("(") and bare.endswith(")"):  # as accountants write it
        bare = f"-{bare[1:-1]}"
    if form == "thousands":
        return float(bare.replace(",", "").replace("'", "")) if _THOUSANDS.fullmatch(bare) else None
    return float(bare.replace(".", "").replace(",", ".")) if _DECIMAL.fullmatch(bare) else None


def base_of(numbers: Any) -> float:
    """Return the base that numbers [n] are kept from: the first, where all are too large for float32; else 0.

    Examples
    --------
    >>> base_of(np.array([np.nan, 2e9, 3e9])), base_of(np.array([2e9, 1.0])), base_of(np.array([]))
    (2000000000.0, 0.0, 0.0)
    """
    present = numbers[np.isfinite(numbers)]
    if not len(present) or np.abs(present.astype(np.float64)).min() < LONGEST_EXACT:
        return 0.0
    return float(present[0])


def distances(numbers: Any, base: float) -> Float64:
    """Return how far numbers [n] lie from a base, float64 [n]; of whole ones exactly, where int64 holds them.

    Examples
    --------
    >>> distances(np.array([2**62 + 1, 2**62 + 3], np.uint64), float(2**62)).tolist()
    [1.0, 3.0]
    >>> distances(np.array([2**64 - 1, 2**64 - 2], np.uint64), 2.0**64).tolist()
    [-1.0, -2.0]
    >>> distances(np.array([-(2**62), 5 - 2**62, 2**62]), -(2.0**62)).tolist()
    [0.0, 5.0, 9.223372036854776e+18]
    """
    rough = numbers.astype(np.float64) - base
    if numbers.dtype.kind not in "iu" or not base:
        return rough
    # Modulo 2**64, so that neither a number beyond int64 nor a base beyond uint64 (2.0**64) overflows.
    away = numbers.astype(np.uint64) - np.uint64(int(base) % 2**64)
    return np.where(np.abs(rough) < 2.0**62, away.astype(np.int64).astype(np.float64), rough)
