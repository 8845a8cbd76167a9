"""One self-contained HTML page: tables and pictures, the drawing library inside, no address outside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from plotly.offline import get_plotlyjs

from stream_moe.evaluation.comparison import cells, published_for
from stream_moe.plots.compare import comparison_pictures
from stream_moe.plots.run import run_pictures
from stream_moe.plots.style import Picture
from stream_moe.telemetry.page.html import html_table

MOST_DETAILED = 4  # results whose own pictures are drawn, too, where several are compared
SCORES = (
    "accuracy", "window_accuracy", "kappa", "kappa_majority", "kappa_temporal", "g_mean", "log_loss",
    "calibration_error",
)  # fmt: skip
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
_STYLE = """:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; width: 100%; margin-bottom: 2rem; font-variant-numeric: tabular-nums }
caption { text-align: left; font-weight: 600; padding: .25rem 0 }
th, td { text-align: right; padding: .2rem .5rem; border-bottom: 1px solid #8884 }
th:first-child { text-align: left; font-weight: 400 }
thead th { font-weight: 600 }
.wide { overflow-x: auto }
@media (max-width: 40rem) { body { margin: 1rem auto; padding: 0 .6rem } td, th { font-size: .85rem } }
body { background: light-dark(#fff, #14171c); color: light-dark(#1b1f24, #d7dce2) }
figure { margin: 0 0 3rem }
h2 { margin-top: 3rem }
h3 { font-size: 1.05rem; margin: 0 0 .25rem }
figcaption { font-size: .9rem; opacity: .85; max-width: 46rem }
"""
# Text and grid take the colours of the page, which follow the reader's preference for light or dark.
_SCRIPT = """const pictures = JSON.parse(document.getElementById('pictures').textContent);
const dark = matchMedia('(prefers-color-scheme: dark)');
const ink = () => dark.matches ? '#b9c0c9' : '#4a515a';
const superfluous = ['select2d', 'lasso2d', 'autoScale2d'];
const options = {responsive: true, displaylogo: false, modeBarButtonsToRemove: superfluous};
for (const [name, picture] of Object.entries(pictures)) {
  picture.layout.font.color = ink();
  Plotly.newPlot(name, picture.data, picture.layout, options);
}
dark.addEventListener('change', () => {
  for (const name of Object.keys(pictures)) Plotly.relayout(name, {'font.color': ink()});
});
"""


def render_page(
    results: Sequence[Mapping[str, Any]],
    title: str = "",
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Render results as a page.

    One result is shown with all its pictures, several are compared first.

    Parameters
    ----------
    results
        As `replay --json` writes them, at least one.
    title
        Of the page; made of the results if empty.
    published
        Accuracies in % by stream and model, to compare with.

    Examples
    --------
    >>> result = {"model": "m", "stream": "s<1>", "seed": 1, "events": 2, "accuracy": 0.5, "kappa": 0.0}
    >>> page = render_page([result])
    >>> "<h1>m on s&lt;1&gt;, seed 1</h1>" in page, "src=" in page.replace("srcset", "")[:2000]
    (True, False)
    """
    sections, pictures = [], dict[str, Picture]()
    if len(results) > 1:
        found = comparison_pictures(results, published)
        pictures |= {picture.name: picture for picture in found}
        sections += [
            _comparison_table(results, published or {}),
            *(_figure(picture.name, picture) for picture in found),
        ]
    detailed = list(results) if len(results) <= MOST_DETAILED else []
    for n, result in enumerate(detailed):
        if len(results) > 1:
            sections.append(f"<h2>{escape(_name(result))}</h2>\n")
        sections.append(_score_table(result))
        for picture in run_pictures(result):
            name = picture.name if len(results) == 1 else f"{picture.name}-{n + 1}"
            pictures[name] = picture
            sections.append(_figure(name, picture))
        if result.get("experts"):
            sections.append(_expert_table(result))
    title = title or (_name(results[0]) if len(results) == 1 else f"{len(results)} replays compared")
    figures = {name: json.loads(picture.figure.to_json()) for name, picture in pictures.items()}
    drawn = {name: {"data": each["data"], "layout": each["layout"]} for name, each in figures.items()}
    for each in drawn.values():
        each["layout"].pop("template", None)  # plotly's own look, 7 kB in every figure
    data = json.dumps(drawn).replace("<", r"\u003c")  # nothing in it ends the element it stands in
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n<link rel="icon" href="data:,">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"{''.join(sections)}"
        f"<script>{get_plotlyjs()}</script>\n"
        f'<script type="application/json" id="pictures">{data}</script>\n'
        f"<script>\n{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _name(result: Mapping[str, Any]) -> str:
    late = result.get("label_delay")
    delay = f", labels {late:,} events late" if isinstance(late, int) and late else ""
    delay = f", labels as late as {late!r} says" if isinstance(late, str) else delay
    return f"{result['model']} on {result['stream']}, seed {result.get('seed', '?')}{delay}"


def _figure(name: str, picture: Picture) -> str:
    height, title, words = int(picture.figure.layout.height), escape(picture.title), escape(picture.words)
    return (
        f'<figure><h3>{title}</h3>\n<div id="{name}" class="plot" style="height: {height}px" role="img" '
        f'aria-label="{title}"></div>\n<figcaption>{words}</figcaption></figure>\n'
    )


def _score_table(result: Mapping[str, Any]) -> str:
    rows = [[name.replace("_", " "), f"{result[name]:.4f}"] for name in SCORES if result.get(name) is not None]
    rows.append(["events", f"{result['events']:,}"])
    if result.get("events_per_second"):
        rows.append(["events per second", f"{result['events_per_second']:,.0f}"])
    if result.get("state_digest"):
        rows.append(["state digest", result["state_digest"][:16]])
    return html_table("Prequential scores", ["", "value"], rows)


def _expert_table(result: Mapping[str, Any]) -> str:
    columns = ("routed", "trained", "nodes", "drifts", "resets")
    rows = [
        [f"{e} {x['kind']}", *(f"{x.get(name, 0):,}" for name in columns), f"{x['accuracy']:.2%}"]
        for e, x in enumerate(result["experts"])
    ]
    return html_table("Experts at the end", ["expert", *columns, "accuracy"], rows)


def _comparison_table(results: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]) -> str:
    rows, found = [], cells(results)
    for cell in found:
        width = "" if math.isnan(cell.half_width) else f" ± {100 * cell.half_width:.2f}"
        figure = published_for(cell, published)
        known = "" if figure is None else f"{figure:.2f}"
        rows.append(
            [
                f"{cell.stream}: {cell.name}", f"{100 * cell.mean:.2f}{width}", known,
                f"{cell.kappa:.3f}", str(len(cell.scores)), f"{cell.events:,}", f"{cell.cpu_seconds:,.1f}",
            ]
        )  # fmt: skip
    columns = ["stream: model", "accuracy, %", "published", "kappa", "seeds", "events", "CPU s"]
    kept = [c for c in range(len(columns)) if any(row[c] for row in rows)]
    rows = [[row[c] for c in kept] for row in rows]
    return html_table("Mean over seeds, with 95 % interval", [columns[c] for c in kept], rows)
