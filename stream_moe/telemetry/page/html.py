"""Numbers and tables as text of a page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

UNKNOWN = "unknown"


def html_table(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]], name: str = "") -> str:
    """Lay rows of text out as a table whose first column names the row; one too wide for a phone moves by itself.

    Parameters
    ----------
    caption, columns
        Text; the first column may have an empty name.
    rows
        Text, but for the first cell, which may be a link made by `link`.
    name
        Makes the `id` of the region that moves; made of the caption if empty.
    """
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        f'<tr><th scope="row">{cell_text(first)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in rest)}</tr>\n'
        for first, *rest in rows
    )
    return region(caption, f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>", name)


def region(caption: str, content: str, name: str = "") -> str:
    """Wrap a table's content so that a wide one moves by itself, by keyboard too."""
    text, at = escape(caption), name or "-".join(caption.lower().split())
    table = f"<table><caption>{text}</caption>\n{content}</table>"
    return f'<div class="wide" id="{at}" role="region" aria-label="{text}" tabindex="0">{table}</div>\n'


class Link(str):
    """Markup that is ready for the page."""

    __slots__ = ()


def link(target: str, text: str, current: bool = False) -> Link:
    """Link within the page; `current` marks what is shown."""
    mark = ' aria-current="page"' if current else ""
    return Link(f'<a href="{escape(target)}"{mark}>{escape(text)}</a>')


def cell_text(cell: str) -> str:
    """Escape a cell, unless it is a link of ours."""
    return cell if isinstance(cell, Link) else escape(cell)


def count(value: float) -> str:
    """Say a whole number with its thousands apart."""
    return f"{value:,.0f}"


def number(value: float, digits: int, known: bool = True) -> str:
    return f"{value:.{digits}f}" if known and math.isfinite(value) else UNKNOWN


def percent(value: float, known: bool = True) -> str:
    return f"{value:.1%}" if known and math.isfinite(value) else UNKNOWN


def duration(seconds: float) -> str:
    """Say a time in the largest unit that keeps two digits.

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
    """Say a size in the largest unit below it.

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
    """Say a number in few characters, for an axis.

    Examples
    --------
    >>> short(0), short(0.5), short(950), short(23_400), short(1_500_000)
    ('0', '0.5', '950', '23 k', '1.5 M')
    """
    for unit, one in (("M", 1e6), ("k", 1e3)):
        if value >= one:
            return f"{value / one:.{0 if value >= 10 * one else 1}f} {unit}"
    return f"{value:g}" if value < 10 else f"{value:.0f}"
