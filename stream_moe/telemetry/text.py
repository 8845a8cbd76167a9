"""Numbers as text for a person."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

UNKNOWN = "unknown"
CLASS_COLUMNS = ("class", "labels", "predicted", "precision", "recall", "F1")


def count(value: float) -> str:
    """Write a whole number with its thousands apart."""
    return f"{value:,.0f}"


def number(value: float, digits: int, known: bool = True) -> str:
    """Write a number with so many digits behind the point, or that it is not known."""
    return f"{value:.{digits}f}" if known and math.isfinite(value) else UNKNOWN


def percent(value: float, known: bool = True) -> str:
    """Write a share in percent, or that it is not known."""
    return f"{value:.1%}" if known and math.isfinite(value) else UNKNOWN


def duration(seconds: float) -> str:
    """Write a time in the largest unit that keeps two digits.

    Examples
    --------
    >>> duration(0.25), duration(80), duration(5000), duration(50 * 3600), duration(10 * 86400)
    ('0.2 s', '80 s', '83 min', '50 h', '10 d')
    """
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 3 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def size(n_bytes: float) -> str:
    """Write a size in the largest unit below it.

    Examples
    --------
    >>> size(999), size(40_000), size(3_200_000)
    ('999 B', '40.0 kB', '3.2 MB')
    """
    for unit, one in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= one:
            return f"{n_bytes / one:.1f} {unit}"
    return f"{n_bytes:.0f} B"


def short(value: float) -> str:
    """Write a number in few characters, for an axis.

    Examples
    --------
    >>> short(0), short(0.5), short(950), short(23_400), short(1_500_000)
    ('0', '0.5', '950', '23 k', '1.5 M')
    """
    for unit, one in (("M", 1e6), ("k", 1e3)):
        if value >= one:
            return f"{value / one:.{0 if value >= 10 * one else 1}f} {unit}"
    return f"{value:g}" if value < 10 else f"{value:.0f}"


def class_rows(classes: Sequence[str], scores: Mapping[str, Any], most: int) -> list[tuple[str, ...]]:
    """Write how well each class is found; of more than `most` classes those that came and are found least.

    Examples
    --------
    >>> scores = {"class_labels": [993, 7], "class_predictions": [1000, 0], "class_precision": [0.993, None]}
    >>> scores |= {"class_recall": [1.0, 0.0], "class_f1": [0.9965, 0.0]}
    >>> class_rows(["fair", "fraud"], scores, 12)
    [('fair', '993', '1,000', '99.30%', '100.00%', '0.9965'), ('fraud', '7', '0', '-', '0.00%', '0.0000')]
    """
    recall, shown = scores["class_recall"], list(range(len(classes)))
    if len(shown) > most:
        shown = sorted((c for c in shown if recall[c] is not None), key=lambda c: recall[c])[:most]
    counts = [[count(n) for n in scores[f"class_{name}"]] for name in ("labels", "predictions")]
    shares = [
        ["-" if value is None else format(value, form) for value in scores[f"class_{name}"]]
        for name, form in (("precision", ".2%"), ("recall", ".2%"), ("f1", ".4f"))
    ]
    return [(classes[c], *(column[c] for column in (*counts, *shares))) for c in shown]


def least_found(shown: int, n_classes: int) -> str:
    """Say which classes `class_rows` left out; nothing if none."""
    return f"of {n_classes:,} classes the {shown} with the lowest recall" if shown < n_classes else ""
