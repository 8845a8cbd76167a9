"""One self-contained HTML page: tables and plots, the drawing library inside, no address outside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from plotly.offline import get_plotlyjs

from stream_moe.evaluation.comparison import cells, published_for
from stream_moe.plots.compare import comparison_plots
from stream_moe.plots.run import run_plots
from stream_moe.plots.style import Plot
from stream_moe.report import majority_only
from stream_moe.telemetry.page.html import environment
from stream_moe.telemetry.text import CLASS_COLUMNS, class_rows, least_found

MOST_CLASSES = 64  # in the table of classes
MOST_DETAILED = 4  # results whose own plots are drawn, too, where several are compared
SCORES = (
    "accuracy", "window_accuracy", "kappa", "kappa_majority", "kappa_temporal", "balanced_accuracy",
    "g_mean", "window_roc_auc", "window_average_precision", "log_loss", "calibration_error",
)  # fmt: skip
NAMES = {
    "kappa_majority": "kappa_M", "kappa_temporal": "kappa_temporal", "g_mean": "G-mean", "log_loss": "log-loss",
    "window_roc_auc": "window ROC AUC",
}  # fmt: skip
EXPERT_COLUMNS = ("expert", "routed", "trained", "nodes", "drifts", "resets", "accuracy")
_TEMPLATE = environment("stream_moe.plots").get_template("report.html")


def render_page(
    results: Sequence[Mapping[str, Any]],
    title: str = "",
    published: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """Render results as a page.

    One result is shown with all its plots, several are compared first.

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
    published = published or {}
    comparison = comparison_plots(results, published) if len(results) > 1 else []
    detailed = results if len(results) <= MOST_DETAILED else []
    parts = [_part(n, result, len(results) > 1) for n, result in enumerate(detailed)]
    drawn = {plot.name: _drawn(plot) for plot in comparison}
    drawn |= {name: _drawn(plot) for part in parts for name, plot in part["plots"].items()}
    return _TEMPLATE.render(
        title=title or (_name(results[0]) if len(results) == 1 else f"{len(results)} replays compared"),
        compared=_comparison_table(results, published) if comparison else None,
        comparison=comparison,
        parts=parts,
        expert_columns=EXPERT_COLUMNS,
        plotly=get_plotlyjs(),
        data=json.dumps(drawn).replace("<", r"\u003c"),  # nothing in it ends the element it stands in
    )


def _drawn(plot: Plot) -> dict[str, Any]:
    """Return what plotly draws."""
    figure = json.loads(plot.figure.to_json())
    figure["layout"].pop("template", None)  # plotly's own look, 7 kB in every figure
    return {"data": figure["data"], "layout": figure["layout"]}


def _part(n: int, result: Mapping[str, Any], is_one_of_several: bool) -> dict[str, Any]:
    """Return what is shown of one result: its name, tables and plots, these by the id of their place."""
    plots = {f"{plot.name}-{n + 1}" if is_one_of_several else plot.name: plot for plot in run_plots(result)}
    return {
        "name": _name(result), "scores": _scores(result), "warning": _warning(result), "plots": plots,
        "class_columns": CLASS_COLUMNS, **_classes(result), "experts": _experts(result),
    }  # fmt: skip


def _warning(result: Mapping[str, Any]) -> str:
    """Say where a fixed answer would do as well; results written before there were classes say nothing."""
    if not {"classes", "class_labels", "kappa_majority"} <= result.keys():
        return ""
    largest = majority_only(result["accuracy"], result["kappa_majority"], result["class_labels"])
    return "" if largest is None else f"No better than always naming {result['classes'][largest]}."


def _classes(result: Mapping[str, Any]) -> dict[str, Any]:
    names = result.get("classes", [])
    if not names or "class_precision" not in result:
        return {"classes": [], "least_found": ""}
    rows = class_rows(names, result, MOST_CLASSES)
    return {"classes": rows, "least_found": least_found(len(rows), len(names))}


def _name(result: Mapping[str, Any]) -> str:
    late = result.get("label_delay")
    delay = f", labels {late:,} events late" if isinstance(late, int) and late else ""
    delay = f", labels as late as their column {late!r}" if isinstance(late, str) else delay
    return f"{result['model']} on {result['stream']}, seed {result.get('seed', '?')}{delay}"


def _scores(result: Mapping[str, Any]) -> list[list[str]]:
    rows = [
        [NAMES.get(name, name.replace("_", " ")), f"{value:.4f}"]
        for name in SCORES
        if (value := result.get(name)) is not None
    ]
    rows.append(["events", f"{result['events']:,}"])
    if result.get("events_per_second"):
        rows.append(["events per second", f"{result['events_per_second']:,.0f}"])
    if result.get("state_digest"):
        rows.append(["state digest", result["state_digest"][:16]])
    return rows


def _experts(result: Mapping[str, Any]) -> list[list[str]]:
    return [
        [f"{e} {x['kind']}", *(f"{x.get(name, 0):,}" for name in EXPERT_COLUMNS[1:-1]), f"{x['accuracy']:.2%}"]
        for e, x in enumerate(result.get("experts", []))
    ]


def _comparison_table(
    results: Sequence[Mapping[str, Any]], published: Mapping[str, Mapping[str, float]]
) -> tuple[list[str], list[list[str]]]:
    """Return the columns that have anything to show, and their rows."""
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
    return [columns[c] for c in kept], rows
