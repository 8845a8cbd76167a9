"""Charts of the live page as SVG within HTML: text keeps its size on a phone, only the plot is stretched.

A chart is one element with role `img` whose name has the numbers. Colours come from the page's style sheet by
class, as its policy allows no style of an element's own.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup

from stream_moe.types import Float64

Say = Callable[[float], str]  # writes a value
Marks = Float64 | None  # [n] how many drifts there were between a point and the one before

WIDTH = 1000  # units of a plot, whatever its pixels
PAD = 8  # pixels above and below the lines, for the numbers of the axis
LINE_GAP = 15  # pixels between two labels at the end of lines
COLUMNS = 64  # of a heat map, at most
ROW = 18  # pixels
# Shares from which a cell gets the next darker colour: each about twice the one before.
LEVELS = (0.01, 0.03, 0.06, 0.12, 0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Axis:
    """Where the points are from left (0) to right (1), and what stands below."""

    places: Float64  # [n]
    labels: Sequence[str]  # evenly from left to right
    words: Sequence[str]  # [n] what a point is called


@dataclass(frozen=True, slots=True)
class Line:
    """One line; NaN is a gap. `ink` is its class of colour."""

    name: str
    values: Float64  # [n]
    ink: str


def line_chart(
    name: str,
    axis: Axis,
    lines: Sequence[Line],
    say: Say,
    marks: Marks = None,
    height: int = 190,
    counts: bool = False,
) -> Markup:
    """Draw lines with their names at their ends; to the chart's the latest, lowest and highest values are added.

    Where the values are counts the axis begins at 0; others are scores, and it stays within -1 and 1.
    """
    bottom, top, ticks = _ticks([line.values for line in lines], counts)

    def y(value: float) -> float:
        return round(PAD + (height - 2 * PAD) * (top - min(max(value, bottom), top)) / (top - bottom), 1)

    places = np.round(axis.places * WIDTH, 1)
    grid = "".join(f'<path class="grid" d="M0 {y(tick)}H{WIDTH}"/>' for tick in ticks)
    drifts = ""
    if marks is not None and marks.any():
        where = [f"M{x:g} 0V{height}" for x, n in zip(places.tolist(), marks.tolist(), strict=True) if n > 0]
        drifts = f'<path class="drift" d="{"".join(where)}"/>'
    paths = "".join(f'<path class="line {line.ink}" d="{_path(places, line.values, y)}"/>' for line in lines)
    plot = _plot(height, grid + drifts + paths + _hover(places, axis.words, lines, marks, say, height))
    left = "".join(f'<text x="38" y="{y(tick) + 4:g}" text-anchor="end">{escape(say(tick))}</text>' for tick in ticks)
    ends = _ends(lines, y, height)
    right = "".join(f'<text class="{ink}" x="6" y="{at + 4:g}">{escape(text)}</text>' for text, ink, at in ends)
    single = len(lines) == 1  # its name is the chart's
    inside = _gutter(44, height, left) + plot + _gutter(*((8, height, "") if single else (104, height, right)))
    return _figure(_described(name, lines, marks, say), inside, axis, "chart single" if single else "chart")


def heat_map(name: str, axis: Axis, rows: Sequence[str], shares: Float64, ends: Sequence[str]) -> Markup:
    """Draw shares float64 [E, n - 1] between one point and the next, a row for each name, with a word at its end."""
    height, cells = ROW * len(rows), [list[str]() for _ in LEVELS]
    edges = np.round(axis.places * WIDTH).astype(int)
    for r, row in enumerate(np.searchsorted(LEVELS, shares, side="right")):
        start = 0
        for end in range(1, len(row) + 1):  # neighbours of one colour are one cell
            if end < len(row) and row[end] == row[start]:
                continue
            if row[start] and (width := edges[end] - edges[start]):
                cells[row[start] - 1].append(f"M{edges[start]} {r * ROW + 1}h{width}v{ROW - 2}h-{width}z")
            start = end
    paths = "".join(f'<path class="l{n + 1}" d="{"".join(found)}"/>' for n, found in enumerate(cells) if found)
    plot = _plot(height, f'<path class="ground" d="M0 0H{WIDTH}V{height}H0z"/>{paths}')
    left = "".join(f"<span>{escape(row)}</span>" for row in rows)
    right = "".join(f"<span>{escape(end)}</span>" for end in ends)
    inside = f'<div class="names">{left}</div>{plot}<div class="ends">{right}</div>'
    return _figure(name, inside, axis, "heat")


def heat_legend(what: str) -> Markup:
    """Write which colour is which share."""
    keys = "".join(f'<span class="key l{n + 1}">{level:.0%}</span>' for n, level in enumerate(LEVELS))
    return Markup(  # noqa: S704 (the text is escaped)
        f'<p class="legend">{escape(what)}, from <span class="keys">{keys}</span></p>\n'
    )


def level(share: float) -> str:
    """Class of the colour of a share."""
    return f"l{bisect.bisect_right(LEVELS, share)}"


def thinned(n: int, most: int = COLUMNS) -> list[int]:
    """Indices of at most `most` + 1 of n points, the first and the last among them.

    Examples
    --------
    >>> thinned(5), thinned(10, 3)
    ([0, 1, 2, 3, 4], [0, 3, 6, 9])
    """
    return sorted({round(i) for i in np.linspace(0, n - 1, min(n, most + 1)).tolist()})


def _figure(name: str, inside: str, axis: Axis, kind: str) -> Markup:
    below = "".join(f"<span>{escape(label)}</span>" for label in axis.labels)
    return Markup(  # noqa: S704 (all texts in it are escaped)
        f'<div class="{kind}" role="img" aria-label="{escape(name)}"><div class="row">{inside}</div>'
        f'<div class="below">{below}</div></div>\n'
    )


def _plot(height: int, inside: str) -> str:
    box = f'viewBox="0 0 {WIDTH} {height}" preserveAspectRatio="none" height="{height}"'
    return f'<svg aria-hidden="true" class="plot" {box}>{inside}</svg>'


def _gutter(width: int, height: int, inside: str) -> str:
    return f'<svg aria-hidden="true" class="gutter" width="{width}" height="{height}">{inside}</svg>'


def _path(places: Float64, values: Float64, y: Callable[[float], float]) -> str:
    steps, pen = [], "M"
    for x, value in zip(places.tolist(), values.tolist(), strict=True):
        if math.isfinite(value):
            steps.append(f"{pen}{x:g} {y(value):g}")
        pen = "L" if math.isfinite(value) else "M"
    return "".join(steps)


def _hover(places: Float64, words: Sequence[str], lines: Sequence[Line], marks: Marks, say: Say, height: int) -> str:
    """Areas without colour that show the numbers of a point under a mouse."""
    found, kept = [], thinned(len(places))
    for before, here in zip([0, *kept], kept, strict=False):
        at = f"{words[here]}: " + ", ".join(
            f"{line.name} {say(line.values[here])}" for line in lines if math.isfinite(line.values[here])
        )
        if marks is not None and (n := marks[before + 1 : here + 1].sum()):
            at += f", {n:.0f} drifts"
        left, right = places[before], places[here]
        found.append(
            f'<rect class="hover" x="{left:g}" width="{max(right - left, 1):g}" height="{height}">'
            f"<title>{escape(at)}</title></rect>"
        )
    return "".join(found)


def _ends(lines: Sequence[Line], y: Callable[[float], float], height: int) -> list[tuple[str, str, float]]:
    """Name, colour and height of the label at the end of each line, moved apart where they would touch."""
    known = [(line, line.values[np.isfinite(line.values)]) for line in lines]
    wanted = sorted((y(float(values[-1])), n) for n, (_, values) in enumerate(known) if len(values))
    places: list[float] = []
    for at, _ in wanted:
        places.append(max(at, places[-1] + LINE_GAP if places else 8.0))
    room = height - 6.0
    for i in range(len(places) - 1, -1, -1):
        places[i] = min(places[i], room)
        room = places[i] - LINE_GAP
    return [(lines[n].name, lines[n].ink, at) for at, (_, n) in zip(places, wanted, strict=True)]


def _ticks(series: Sequence[Float64], counts: bool) -> tuple[float, float, list[float]]:
    """Bottom and top of the axis of values, and the round numbers on it."""
    values = np.concatenate(series)
    values = values[np.isfinite(values)]
    least, most = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    least, most = (0.0, max(most, 3.0)) if counts else (max(least, -1.0), min(max(most, least + 0.03), 1.0))
    rough = (most - least) / 3
    power = 10.0 ** math.floor(math.log10(max(rough, 1e-3)))
    step = next(power * n for n in (1, 2, 2.5, 5, 10) if power * n >= rough * (1 - 1e-9))
    bottom, top = math.floor(least / step + 1e-9) * step, math.ceil(most / step - 1e-9) * step
    top = max(top, bottom + step)  # a perfect score is a line at the top
    return bottom, top, [round(bottom + step * i, 6) for i in range(round((top - bottom) / step) + 1)]


def _described(name: str, lines: Sequence[Line], marks: Marks, say: Say) -> str:
    parts = []
    for line in lines:
        known = line.values[np.isfinite(line.values)]
        if len(known):
            last, least, most = (say(float(value)) for value in (known[-1], known.min(), known.max()))
            parts.append(f"{line.name} {last}, between {least} and {most}")
    drifts = "" if marks is None else f" Drifts marked: {marks.sum():.0f}."
    return f"{name}. {'; '.join(parts) or 'No value yet'}.{drifts}"
