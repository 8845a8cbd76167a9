"""Plots of several results side by side."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stream_moe.evaluation.comparison import Cell, Ranks, cells, competitor, friedman_ranks, published_for
from stream_moe.plots.run import percent
from stream_moe.plots.style import GREY, PALETTE, Plot, colour, dash, new_figure, over_events

MOST_STREAMS = 12  # plots of accuracy over time; a page of more is no page
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon")
Result = Mapping[str, Any]
Published = Mapping[str, Mapping[str, float]]


def comparison_plots(results: Sequence[Result], published: Published | None = None) -> list[Plot]:
    """Draw what several results say together, next to published accuracies in % by stream and model."""
    found = cells(results)
    names = list(dict.fromkeys(cell.name for cell in found))
    plots = [accuracies(found, names, published or {})]
    scores: dict[str, dict[str, float]] = {}
    for cell in found:
        scores.setdefault(cell.stream, {})[cell.name] = cell.mean
    if (ranks := friedman_ranks(scores)) is not None:
        plots.append(critical_difference(ranks))
    streams = list(dict.fromkeys(result["stream"] for result in results))
    for n, stream in enumerate(streams[:MOST_STREAMS]):
        own = [result for result in results if result["stream"] == stream]
        plot = over_time(f"over-time-{n + 1}-{slug(stream)}", stream, own, names)
        plots += [] if plot is None else [plot]
    return plots


def accuracies(found: Sequence[Cell], names: Sequence[str], published: Published) -> Plot:
    """Mean and interval of every competitor on every stream; published figures as hollow marks."""
    streams = list(dict.fromkeys(cell.stream for cell in found))
    height = max(260, 16 * len(found) + 30 * len(streams) + 90)
    figure = new_figure(height=height, x="accuracy, %", hovermode="closest")
    spread = 0.7 / max(len(names), 1)
    for n, name in enumerate(names):
        group = [cell for cell in found if cell.name == name]
        y = [streams.index(cell.stream) + (n - (len(names) - 1) / 2) * spread for cell in group]
        widths = [0.0 if math.isnan(cell.half_width) else 100 * cell.half_width for cell in group]
        figure.add_scatter(
            x=[100 * cell.mean for cell in group], y=y, mode="markers", name=name, legendgroup=name,
            error_x={"array": widths, "thickness": 1.5, "width": 4},
            marker={"color": colour(n), "symbol": SYMBOLS[n % len(SYMBOLS)], "size": 9},
            customdata=[(cell.stream, len(cell.scores), width) for cell, width in zip(group, widths, strict=True)],
            hovertemplate="%{customdata[0]}: %{x:.2f} ± %{customdata[2]:.2f} %, seeds: %{customdata[1]}",
        )  # fmt: skip
        known = [(published_for(cell, published), at) for cell, at in zip(group, y, strict=True)]
        if any(value is not None for value, _ in known):
            figure.add_scatter(
                x=[value for value, _ in known], y=[at for _, at in known], mode="markers", name=f"{name}, published",
                marker={"color": colour(n), "symbol": f"{SYMBOLS[n % len(SYMBOLS)]}-open", "size": 9},
                hovertemplate="published: %{x:.2f} %", legendgroup=name,
            )  # fmt: skip
    figure.update_yaxes(
        tickvals=list(range(len(streams))), ticktext=streams, range=[len(streams) - 0.5, -0.5], zeroline=False
    )
    several = max(len(cell.scores) for cell in found) > 1
    whiskers = "Whiskers are 95 % intervals of the mean over seeds" if several else "One seed each, so no intervals"
    hollow = "; hollow marks are published figures" if published else ""
    best = {stream: max((c for c in found if c.stream == stream), key=lambda c: c.mean).name for stream in streams}
    winner = max(names, key=list(best.values()).count)
    wins = list(best.values()).count(winner)
    return Plot(
        "accuracies",
        f"{winner} is best on {wins} of {len(streams)} streams" if len(names) > 1 else f"Accuracy of {winner}",
        f"Prequential accuracy: each event is predicted before it is learnt. {whiskers}{hollow}.",
        figure,
    )


def critical_difference(ranks: Ranks) -> Plot:
    """Average ranks; a bar joins those that the data do not separate."""
    k = len(ranks.models)
    figure = new_figure(height=28 * k + 110, x="average rank (1 = best)", hovermode="closest", showlegend=False)
    figure.add_scatter(
        x=list(ranks.ranks), y=list(range(k)), mode="markers", marker={"size": 11, "color": PALETTE[0]},
        customdata=list(ranks.models), hovertemplate="%{customdata}: %{x:.2f}<extra></extra>",
    )  # fmt: skip
    for n, (first, last) in enumerate(ranks.groups):
        x, y = [ranks.ranks[first], ranks.ranks[last]], [last + 0.25 + 0.12 * (n % 3)] * 2
        figure.add_scatter(x=x, y=y, mode="lines", line={"width": 4, "color": GREY}, hoverinfo="skip")
    figure.add_scatter(
        x=[1, 1 + ranks.critical_difference], y=[-1, -1], mode="lines+markers", hoverinfo="skip",
        line={"width": 2, "color": PALETTE[3]}, marker={"symbol": "line-ns-open", "size": 9},
    )  # fmt: skip
    ticks = {"tickvals": list(range(-1, k)), "ticktext": ["critical difference", *ranks.models]}
    figure.update_yaxes(**ticks, range=[k - 0.3, -1.5], zeroline=False, showgrid=False)
    figure.update_xaxes(range=[0.8, max(k, 1 + ranks.critical_difference) + 0.3], dtick=1)
    verdict = "are not alike" if ranks.p_value < 0.05 else "may all be alike"
    return Plot(
        "ranks",
        f"Ranks over {len(ranks.streams)} streams: the {k} models {verdict} "
        f"(Friedman's test, p = {ranks.p_value:.2g})",
        f"Models joined by a grey bar do not differ at the 5 % level: their ranks lie within Nemenyi's critical "
        f"difference of {ranks.critical_difference:.2f} (Demsar 2006). More streams make it smaller.",
        figure,
    )


def over_time(name: str, stream: str, results: Sequence[Result], names: Sequence[str]) -> Plot | None:
    """Accuracy between samples of every competitor on a stream, mean over seeds; None without timelines."""
    figure = over_events(y="accuracy, %")
    groups: dict[str, list[Result]] = {}
    for result in results:
        if len(result.get("timeline", {}).get("events", [])) > 1:
            groups.setdefault(competitor(result), []).append(result)
    last: dict[str, float] = {}
    for who, group in groups.items():
        n = names.index(who)  # one colour for a competitor on the whole page
        events = group[0]["timeline"]["events"]
        alike = [r for r in group if r["timeline"]["events"] == events]
        values = np.array([percent(r["timeline"]["accuracy"]) for r in alike], float)
        mean = values.mean(0)
        last[who] = float(np.nanmean(mean[-max(len(mean) // 10, 1) :]))
        figure.add_scatter(
            x=events, y=[None if math.isnan(v) else v for v in mean.tolist()], mode="lines", name=who,
            line={"color": colour(n), "width": 2, "dash": dash(n)}, hovertemplate="%{y:.2f}",
        )  # fmt: skip
    if not groups:
        return None
    figure.update_layout(height=320 + 16 * len(groups))
    leader = max(last, key=lambda who: last[who])
    title = f"{stream}: {leader} leads at the end" if len(groups) > 1 else f"{stream}: {leader}"
    words = "Accuracy of the events between two points, mean over the seeds."
    return Plot(name, title, words, figure)


def slug(name: str) -> str:
    """Return letters, digits and dashes only: for the name of a file."""
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name.rsplit("/", maxsplit=1)[-1])
