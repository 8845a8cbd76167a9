"""Plots of one result: how good it was over time, and what went on inside the mixture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from stream_moe.plots.style import ALARM, GREY, HEAT, PALETTE, SLIM, Plot, new_figure, over_events
from stream_moe.types import Float64

MOST_ROWS = 48  # experts or classes in a heat map; the ones with most events
MOST_LINES = 60  # alarms drawn as lines over the whole height; beyond it marks at the bottom are enough
Result = Mapping[str, Any]


def run_plots(result: Result) -> list[Plot]:
    """Draw all that a result holds: plots over time need its `timeline`, those of routing several experts."""
    found: list[Plot] = []
    if len(result.get("timeline", {}).get("events", [])) > 1:
        found += [accuracy(result), kappas(result)]
        if len(result["experts"]) > 1:
            found += [routing(result), rightness(result), lives(result)]
        if any(expert["nodes"] > 1 for expert in result["experts"]):
            found.append(sizes(result))
    if len(result.get("experts", [])) > 1:
        found.append(specialization(result))
    if any(map(any, result.get("confusion", []))):  # left out of very many classes
        found.append(confusion(result))
    if any(each["count"] for each in result.get("calibration", [])):
        found.append(calibration(result))
    return found


def accuracy(result: Result) -> Plot:
    """Accuracy between samples and since the start, the stream's Bayes rate, and where the mixture was alarmed."""
    timeline = result["timeline"]
    figure = over_events(y="accuracy, %")
    window, step = percent(timeline["accuracy"]), timeline["events"][0]
    total = percent(timeline["accuracy_since_start"])
    _line(figure, timeline["events"], window, f"each {step:,} events", PALETTE[0])
    _line(figure, timeline["events"], total, "since the start", PALETTE[1], dash="dash")
    if (bayes := result.get("bayes_accuracy")) is not None:
        ends = [timeline["events"][0], timeline["events"][-1]]
        _line(figure, ends, [100 * bayes] * 2, "best possible (Bayes)", GREY, dash="dot")
    alarms = [event for event in timeline["drift_event"] if event is not None]
    known = [value for value in (*window, *total) if value is not None]
    if alarms and known:
        low = min(known) - 0.05 * (max(known) - min(known))
        figure.add_scatter(
            x=alarms, y=[low] * len(alarms), mode="markers", name="mixture alarmed", hovertemplate="alarm at %{x:,d}",
            marker={"symbol": "triangle-up", "size": 10, "color": ALARM},
        )  # fmt: skip
        for alarm in alarms[:MOST_LINES]:
            figure.add_vline(alarm, line={"color": ALARM, "width": 1, "dash": "dot"}, opacity=0.6)
    count = sum(timeline["drift_count"])
    return Plot(
        "accuracy",
        f"Accuracy over time: {100 * result['accuracy']:.2f} % of {result['events']:,} events",
        f"Each event is predicted before it is learnt. A triangle is where ADWIN took a rise of "
        f"the mixture's error for a drift: {times(count)}.",
        figure,
    )


def kappas(result: Result) -> Plot:
    """Three kappas between samples."""
    timeline = result["timeline"]
    figure = over_events(y="share of errors avoided")
    names = {
        "kappa": ("kappa: than chance", "solid", "chance"),
        "kappa_majority": ("kappa_M: than the majority class", "dash", "the majority class"),
        "kappa_temporal": ("kappa_temporal: than the last label", "dot", "repeating the last label"),
    }
    for n, (key, (name, dash, _)) in enumerate(names.items()):
        _line(figure, timeline["events"], timeline[key], name, PALETTE[n], dash=dash)
    figure.add_hline(0, line={"color": GREY, "width": 1})
    known = [value for key in names for value in timeline[key] if value is not None]
    low = max(min([0.0, *known]), -1.0)  # repeating the last label may be hard to beat: no scale for -20
    figure.update_yaxes(range=[low - 0.05, min(max([0.0, *known]) + 0.05, 1.02)])
    weakest = min(names, key=lambda key: result[key])
    return Plot(
        "kappas",
        f"Better than simple rules? The hardest to beat is {names[weakest][2]}: {result[weakest]:.3f}",
        "1 avoids all errors of the rule it is compared with, 0 is no better, below 0 is worse. Windows as above.",
        figure,
    )


def routing(result: Result) -> Plot:
    """Heat map of the share of events that each expert was routed, by time."""
    timeline = result["timeline"]
    z = 100 * np.array(timeline["experts"]["share"]).T
    rows = busiest([expert["routed"] for expert in result["experts"]])
    top = result["experts"][rows[0]] if rows else None
    figure = _expert_heat(result, z, sorted(rows), " %", "%{z:.1f} % of the events")
    share = 100 * top["routed"] / max(result["events"], 1) if top else 0.0
    return Plot(
        "routing",
        f"Whom the router trusted: expert {rows[0]} ({top['kind'] if top else ''}) with {share:.0f} % of all events",
        "Of the events between two points, the share on which each expert had the highest weight. "
        "A column adds up to 100 %." + left_out(len(result["experts"]), len(rows), "experts"),
        figure,
    )


def rightness(result: Result) -> Plot:
    """Heat map of each expert's own recent accuracy, by time."""
    z = 100 * np.array(result["timeline"]["experts"]["accuracy"], float).T
    rows = sorted(busiest([expert["routed"] for expert in result["experts"]]))
    best = max(range(len(result["experts"])), key=lambda e: result["experts"][e]["accuracy"])
    figure = _expert_heat(result, z, rows, " %", "%{z:.1f} % right")
    low, high = np.nanpercentile(z[rows], [5, 100])
    figure.update_traces(zmin=float(low), zmax=float(high))
    return Plot(
        "experts",
        f"Who was right: expert {best} ({result['experts'][best]['kind']}) alone has "
        f"{100 * result['experts'][best]['accuracy']:.2f} %",
        "Accuracy of each expert on its own over about the last 1,000 labels, whether the router chose it or not.",
        figure,
    )


def lives(result: Result) -> Plot:
    """Life line of each expert: awake or asleep, alarmed, replaced."""
    timeline = result["timeline"]
    events, experts = timeline["events"], timeline["experts"]
    rows = sorted(busiest([expert["routed"] for expert in result["experts"]]))
    names = labels(result)
    figure = new_figure(height=SLIM * len(rows) + 120, x="events", hovermode="closest")
    figure.update_xaxes(tickformat="~s", hoverformat=",d", rangemode="tozero")
    asleep = np.array(experts["asleep"], bool).T  # [E, T]
    for state, name, width, tint in ((False, "awake", 5, PALETTE[5]), (True, "asleep", 1.5, GREY)):
        x: list[float | None] = []
        y: list[str | None] = []
        for e in rows:
            for first, last in runs_of(asleep[e] == state):
                x += [events[first - 1] if first else 0, events[last], None]
                y += [names[e], names[e], None]
        if x:
            look = {"line": {"width": width, "color": tint}, "opacity": 0.55, "hoverinfo": "skip"}
            figure.add_scatter(x=x, y=y, mode="lines", name=name, **look)
    changed = {key: np.diff(np.array(experts[key]), axis=0, prepend=0) for key in ("resets", "drifts")}
    alarmed = np.where(changed["resets"] > 0, 0, changed["drifts"])
    marks = (
        (changed["resets"], "replaced by a fresh one", "x-thin", 2.0, PALETTE[3]),
        (alarmed, "alarmed", "circle-open", 1.5, PALETTE[4]),
    )
    for count, name, symbol, line, tint in marks:
        at, which = np.nonzero(count[:, rows])
        if len(at):
            figure.add_scatter(
                x=[events[t] for t in at], y=[names[rows[i]] for i in which], mode="markers", name=name,
                marker={"symbol": symbol, "size": 7, "line": {"width": line, "color": tint}, "color": tint},
                customdata=count[at, np.array(rows)[which]],
                hovertemplate="%{y}: %{customdata}x by %{x:,d}<extra></extra>",
            )  # fmt: skip
    figure.update_yaxes(categoryorder="array", categoryarray=[names[e] for e in reversed(rows)], showgrid=False)
    figure.update_yaxes(tickfont={"size": 11}, range=[-0.7, len(rows) - 0.3])
    replaced = sum(expert["resets"] for expert in result["experts"])
    sleeping = sum(bool(expert.get("asleep")) for expert in result["experts"])
    return Plot(
        "lives",
        f"Lives of the experts: {times(replaced, 'replacement')}; asleep at the end: {sleeping} of {len(asleep)}",
        "A thick line is an expert that is awake, a thin one an expert that sleeps: it is active on a "
        "sample of the events only. A cross is a fresh expert that took over from it, a circle a rise of its error.",
        figure,
    )


def sizes(result: Result) -> Plot:
    """Heat map of the nodes of the trees, by time."""
    z = np.array(result["timeline"]["experts"]["nodes"], float).T
    rows = [e for e, expert in enumerate(result["experts"]) if expert["nodes"] > 1][:MOST_ROWS]
    figure = _expert_heat(result, np.log10(np.maximum(z, 1)), rows, "", "%{customdata:,d} nodes")
    top = math.ceil(math.log10(max(z.max(), 10)))
    bar = {"tickvals": list(range(top + 1)), "ticktext": [f"{10**n:,}" for n in range(top + 1)]}
    figure.update_traces(customdata=z[rows], colorbar=bar, zmin=0, zmax=float(np.log10(max(z.max(), 2))))
    largest = max(rows, key=lambda e: result["experts"][e]["nodes"])
    return Plot(
        "nodes",
        f"Size of the trees: the largest, expert {largest}, ends with {result['experts'][largest]['nodes']:,} nodes",
        "Nodes of each tree on a logarithmic scale. A tree that was replaced starts small again.",
        figure,
    )


def specialization(result: Result) -> Plot:
    """Heat map of the share of each class's events that went to each expert."""
    counts = np.array(result["specialization"]["expert_class"], float)
    classes = busiest(counts.sum(0).tolist())
    rows = sorted(busiest(counts.sum(1).tolist()))
    names = result.get("classes") or [str(c) for c in range(counts.shape[1])]
    z = 100 * counts / np.maximum(counts.sum(0), 1)
    chosen = sorted(c for c in classes if counts[:, c].sum() > 0)
    figure = _heat(
        z[np.ix_(rows, chosen)], [f" {names[c]}" for c in chosen], [labels(result)[e] for e in rows],
        " %", "class%{x}, %{y}: %{z:.1f} % of the class<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="true class", type="category")
    information = result["specialization"].get("class_information") or 0.0
    return Plot(
        "specialization",
        f"Who answers for which class: knowing the routed expert removes {100 * information:.0f} % of the doubt",
        "Of the events of each class, the share that went to each expert; a column adds up to 100 %. Columns "
        "that are alike mean that experts do not divide the classes among them."
        + left_out(counts.shape[1], len(chosen), "classes"),
        figure,
    )


def confusion(result: Result) -> Plot:
    """Heat map of who is taken for whom: shares of each true class, by predicted class."""
    counts = np.array(result["confusion"], float)
    rows = [c for c in sorted(busiest(counts.sum(1).tolist())) if counts[c].sum() > 0]
    columns = sorted({*rows, *(c for c in busiest(counts.sum(0).tolist()) if counts[:, c].sum() > 0)})
    names = result.get("classes") or [str(c) for c in range(len(counts))]
    z = 100 * counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure = _heat(
        z[np.ix_(rows, columns)], [f" {names[c]}" for c in columns], [f"{names[c]} " for c in rows],
        " %", "%{y} taken for%{x}: %{z:.2f} %, %{customdata:,d} events<extra></extra>",
    )  # fmt: skip
    figure.update_traces(customdata=counts[np.ix_(rows, columns)], zmin=0, zmax=100)
    figure.update_xaxes(title_text="predicted class", type="category")
    figure.update_yaxes(title_text="true class", type="category")
    least = min(rows, key=lambda c: z[c, c])
    return Plot(
        "confusion",
        f"Who is taken for whom: of class {names[least]} {z[least, least]:.1f} % are found",
        "Of the events of each class, the share that got each answer; a row adds up to 100 %, and what is right lies "
        "on the diagonal." + left_out(len(counts), len(rows), "classes"),
        figure,
    )


def calibration(result: Result) -> Plot:
    """Accuracy by confidence, in bins of the highest probability."""
    bins = [each for each in result["calibration"] if each["count"]]
    total = sum(each["count"] for each in bins)
    x, y = percent([each["confidence"] for each in bins]), percent([each["accuracy"] for each in bins])
    figure = new_figure(x="confidence, %", y="accuracy, %", height=380, hovermode="closest")
    _line(figure, [0, 100], [0, 100], "as sure as right", GREY, dash="dot")
    figure.add_scatter(
        x=x, y=y, mode="lines+markers", name=str(result["model"]), line={"color": PALETTE[0], "width": 1.5},
        marker={"size": [6 + 24 * math.sqrt(each["count"] / total) for each in bins], "opacity": 0.75},
        customdata=[each["count"] for each in bins], cliponaxis=False,
        hovertemplate="sure to %{x:.1f} %, right in %{y:.1f} % of %{customdata:,d} events<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(range=[0, 101])
    figure.update_yaxes(range=[0, 103])
    error = sum(abs(each["accuracy"] - each["confidence"]) * each["count"] for each in bins) / total
    sure = sum((each["confidence"] - each["accuracy"]) * each["count"] for each in bins) / total
    way = "too sure" if sure > 0.5 * error else "not sure enough" if sure < -0.5 * error else "off both ways"
    return Plot(
        "calibration",
        f"Calibration: confidence and accuracy differ by {100 * error:.1f} points"
        + (f", {way}" if error > 0.01 else ""),
        "How often the answer was right, by the probability it was given with; a larger point is more events. "
        "Below the dotted line the model was too sure of itself.",
        figure,
    )


def labels(result: Result) -> list[str]:
    """Names of the experts as a reader distinguishes them."""
    return [f"{e} {expert['kind']}" for e, expert in enumerate(result["experts"])]


def busiest(counts: Sequence[float]) -> list[int]:
    """Indices of the at most 48 largest, largest first."""
    return sorted(range(len(counts)), key=lambda n: -counts[n])[:MOST_ROWS]


def left_out(n: int, shown: int, what: str) -> str:
    return f" The {shown} of {n:,} {what} with most events are shown." if n > shown else ""


def times(n: int, what: str = "time") -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def percent(values: Sequence[float | None]) -> list[float | None]:
    return [None if value is None else 100 * value for value in values]


def runs_of(mask: np.ndarray[Any, Any]) -> list[tuple[int, int]]:
    """First and last index of each run of true values.

    Examples
    --------
    >>> import numpy as np
    >>> runs_of(np.array([True, True, False, True]))
    [(0, 1), (3, 3)]
    """
    edges = np.diff(np.concatenate([[0], mask.astype(int), [0]]))
    return list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))


def _line(
    figure: go.Figure, x: Sequence[float], y: Sequence[float | None], name: str, tint: str, dash: str = "solid"
) -> None:
    figure.add_scatter(
        x=list(x), y=list(y), mode="lines", name=name, line={"color": tint, "width": 2, "dash": dash},
        hovertemplate="%{y:.3f}",
    )  # fmt: skip


def _expert_heat(result: Result, z: Float64, rows: Sequence[int], unit: str, hover: str) -> go.Figure:
    """Heat map of experts by time: z [E, T], of which `rows` are drawn."""
    names = labels(result)
    figure = _heat(
        z[list(rows)], result["timeline"]["events"], [names[e] for e in rows], unit,
        "%{y}, up to event %{x:,d}: " + hover + "<extra></extra>",
    )  # fmt: skip
    figure.update_xaxes(title_text="events", tickformat="~s")
    return figure


def _heat(z: Float64, x: Sequence[Any], y: Sequence[str], unit: str, hover: str) -> go.Figure:
    figure = new_figure(height=SLIM * len(y) + 80)
    # Upright: a colour bar that lies flat takes plotly's titles of figure and axis away (3.7).
    bar = {"ticksuffix": unit, "thickness": 8, "xpad": 4, "outlinewidth": 0, "tickfont": {"size": 11}}
    figure.add_heatmap(z=z, x=list(x), y=list(y), colorscale=HEAT, hovertemplate=hover, ygap=1, colorbar=bar)
    figure.update_yaxes(autorange="reversed", tickfont={"size": 11}, showgrid=False)
    figure.update_xaxes(showgrid=False)
    return figure
