"""The end of an experiment as text: mean and interval over seeds, next to what was published."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from stream_moe.evaluation.comparison import Cell, cells, published_for

_HEAD = ("stream", "variant", "model", "runs", "events", "accuracy %", "± 95 %", "published", "difference", "CPU s")


def summary(results: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]) -> str:
    """Lay results out as one line per stream, variant and model.

    Examples
    --------
    >>> one = {"stream": "sea_a", "model": "m", "events": 9, "accuracy": 0.89, "cpu_seconds": 2.0}
    >>> print(summary([one], {"sea_a": {"m": 89.5, "best baseline": 89.7}}))
    stream  model          runs  events  accuracy %  ± 95 %  published  difference  CPU s
    sea_a   m                 1       9       89.00       -      89.50       -0.50    2.0
            best baseline                                        89.70
    """
    rows: list[tuple[str, ...]] = []
    found = cells(results)
    models = {cell.model for cell in found}
    streams = list(dict.fromkeys(cell.stream for cell in found))
    for stream in streams:
        here = [cell for cell in found if cell.stream == stream]
        figures = published.get(stream, {})
        rows += [_row(cell, published_for(cell, published)) for cell in here]
        others = [(name, figure) for name, figure in figures.items() if name not in models]
        rows += [(stream, "", name, "", "", "", "", f"{figure:.2f}", "", "") for name, figure in others]
    rows = [(row[0] if n == 0 or rows[n - 1][0] != row[0] else "", *row[1:]) for n, row in enumerate(rows)]
    columns = [c for c in range(len(_HEAD)) if c in {0, 2} or any(row[c] for row in rows)]
    words = [n for n, c in enumerate(columns) if c < 3]
    return "\n".join(aligned([[row[c] for c in columns] for row in (_HEAD, *rows)], words))


def aligned(rows: Sequence[Sequence[str]], words: Collection[int]) -> Iterator[str]:
    """Lay rows out as lines, columns of words to the left and others to the right.

    Examples
    --------
    >>> list(aligned([("name", "n"), ("a", "10")], {0}))
    ['name   n', 'a     10']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:{'<' if c in words else '>'}{widths[c]}}" for c, cell in enumerate(row)]
        yield "  ".join(cells).rstrip()


def _row(cell: Cell, figure: float | None) -> tuple[str, ...]:
    known = "-" if math.isnan(cell.half_width) else f"{100 * cell.half_width:.2f}"
    against = ("", "") if figure is None else (f"{figure:.2f}", f"{round(100 * cell.mean - figure, 2) + 0.0:+.2f}")
    accuracy, seconds = f"{100 * cell.mean:.2f}", cell.cpu_seconds
    cpu = f"{seconds:.1f}" if seconds >= 1 else f"{seconds:.2g}"
    what = (cell.stream, cell.variant, cell.model, str(len(cell.scores)), f"{cell.events:,}")
    return (*what, accuracy, known, *against, cpu)
