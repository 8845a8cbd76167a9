"""Panels, variables and layout of Grafana dashboards; `dashboards.py` says what is on them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from stream_moe.telemetry.table import METRICS

SOURCE = {"type": "prometheus", "uid": "prometheus"}  # the uid is that of the provisioned data source
WIDTH = 24
RUNBOOKS = "stream-moe-runbooks"

GREEN, YELLOW, RED = "green", "yellow", "red"

# What the exporter labels with a partition: everything but the histograms and what is of the whole process.
_OF_PROCESS = {spec.name for spec in METRICS if spec.read is None}
_ALL = {spec.name for spec in METRICS} | {
    spec.name + suffix for spec in METRICS if spec.kind == "histogram" for suffix in ("_bucket", "_sum", "_count")
}
_OF_PROCESS_RECORDED = {"stream_moe:prediction_latency_seconds:p99_5m"}

Panel = dict[str, Any]
Queries = str | Iterable[tuple[str, str]]


def selected(query: str) -> str:
    """Restrict every metric of a query to what the variables select, and write the interval out.

    Examples
    --------
    >>> selected('rate(stream_moe_dead_letters_total[I])')
    'rate(stream_moe_dead_letters_total{job=~"$job",instance=~"$instance",partition=~"$partition"}[$__rate_interval])'
    """

    def restrict(match: re.Match[str]) -> str:
        name, given = match.group(1), match.group(2)
        base = re.sub("_(bucket|sum|count)$", "", name) if name.endswith(("_bucket", "_sum", "_count")) else name
        if ":" not in name and name not in _ALL:
            raise KeyError(f"no metric {name}")
        matchers = ['job=~"$job"', 'instance=~"$instance"']
        if base not in _OF_PROCESS and name not in _OF_PROCESS_RECORDED:
            matchers.append('partition=~"$partition"')
        return name + "{" + ",".join(([given[1:-1]] if given else []) + matchers) + "}"

    return re.sub(r"\b(stream_moe[_:][a-z0-9_:]+)(\{[^}]*\})?", restrict, query).replace("[I]", "[$__rate_interval]")


def steps(*values: tuple[float, str], base: str = GREEN) -> dict[str, Any]:
    """Thresholds: `base` until the first value is met."""
    found = [{"value": None, "color": base}] + [{"value": value, "color": color} for value, color in values]
    return {"mode": "absolute", "steps": found}


def _targets(queries: Queries, **more: Any) -> list[dict[str, Any]]:
    pairs = [(queries, "")] if isinstance(queries, str) else list(queries)
    return [
        {"datasource": SOURCE, "refId": chr(ord("A") + i), "expr": selected(query), "legendFormat": legend, **more}
        for i, (query, legend) in enumerate(pairs)
    ]


def _panel(kind: str, title: str, text: str, width: int, height: int, unit: str, bounds: Any, **more: Any) -> Panel:
    defaults: dict[str, Any] = {"unit": unit}
    defaults |= {name: bound for name, bound in zip(("min", "max"), bounds, strict=False) if bound is not None}
    return {
        "type": kind,
        "title": title,
        "description": text,
        "datasource": SOURCE,
        "gridPos": {"x": 0, "y": 0, "w": width, "h": height},
        "fieldConfig": {"defaults": defaults | more.pop("field", {}), "overrides": []},
        **more,
    }


def stat(
    title: str,
    text: str,
    query: str,
    unit: str = "short",
    thresholds: dict[str, Any] | None = None,
    *,
    bounds: tuple[float | None, ...] = (),
    legend: str = "",
    decimals: int | None = None,
) -> Panel:
    """Show one number, with its recent course behind it; with a `legend` the name instead."""
    field: dict[str, Any] = {"thresholds": thresholds or steps(), "color": {"mode": "thresholds"}}
    if decimals is not None:
        field["decimals"] = decimals
    options = {
        "graphMode": "none" if legend else "area",
        "colorMode": "value",
        "justifyMode": "auto",
        "textMode": "name" if legend else "value",
        "wideLayout": True,
        "showPercentChange": False,
        "percentChangeColorMode": "standard",
        "orientation": "auto",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    more = {"instant": True, "range": False} if legend else {}
    targets = _targets([(query, legend)], **more)
    return _panel("stat", title, text, 3, 4, unit, bounds, field=field, options=options, targets=targets)


def graph(
    title: str,
    text: str,
    queries: Queries,
    unit: str = "short",
    *,
    bounds: tuple[float | None, ...] = (0,),
    stack: str = "none",
    bars: bool = False,
    limits: dict[str, Any] | None = None,
    width: int = 8,
) -> Panel:
    """Lines over time; `stack` is none, normal or percent, `limits` are thresholds drawn as lines."""
    custom: dict[str, Any] = {
        "drawStyle": "bars" if bars else "line",
        "lineWidth": 1,
        "fillOpacity": 60 if bars or stack != "none" else 0,
        "showPoints": "never",
        "spanNulls": False,
        "stacking": {"mode": stack, "group": "A"},
        "thresholdsStyle": {"mode": "line" if limits else "off"},
    }
    field = {"custom": custom, "thresholds": limits or steps(), "color": {"mode": "palette-classic-by-name"}}
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    targets = _targets(queries)
    return _panel("timeseries", title, text, width, 8, unit, bounds, field=field, options=options, targets=targets)


def table(
    title: str,
    text: str,
    queries: Queries,
    transformations: list[dict[str, Any]],
    unit: str = "short",
    *,
    bounds: tuple[float | None, ...] = (),
    width: int = 12,
    height: int = 10,
    colored: bool = False,
) -> Panel:
    """Rows as of now; `colored` shades the cells by their value."""
    cells = {"type": "color-background", "mode": "gradient"} if colored else {"type": "auto"}
    field: dict[str, Any] = {"custom": {"align": "auto", "inspect": False, "cellOptions": cells}}
    field["color"] = {"mode": "continuous-blues" if colored else "thresholds"}
    field["thresholds"] = steps(base="text")
    panel = _panel("table", title, text, width, height, unit, bounds, field=field)
    panel["options"] = {"frameIndex": 0, "showHeader": True, "cellHeight": "sm"}
    panel["targets"] = _targets(queries, instant=True, range=False, format="table")
    panel["transformations"] = transformations
    return panel


def linked(panel: Panel, title: str, uid: str) -> Panel:
    """Lead from a panel to another dashboard."""
    link = {"title": title, "type": "link", "icon": "doc", "tooltip": title, "url": f"/d/{uid}", "tags": []}
    more = {"asDropdown": False, "targetBlank": False, "includeVars": False, "keepTime": False}
    return panel | {"links": [link | more]}


def words(title: str, text: str, content: str, height: int) -> Panel:
    """Text in Markdown."""
    return {
        "type": "text",
        "title": title,
        "description": text,
        "gridPos": {"x": 0, "y": 0, "w": WIDTH, "h": height},
        "options": {"mode": "markdown", "content": content},
    }


def annotation(name: str, query: str, color: str, tags: str, *, shown: bool = True) -> dict[str, Any]:
    """Mark the times at which the query is above 0."""
    return {
        "name": name,
        "enable": shown,
        "iconColor": color,
        "datasource": SOURCE,
        "expr": selected(query) + " > 0",
        "titleFormat": name,
        "tagKeys": tags,
        "step": "15s",
    }


def _variable(name: str, query: str, text: str, *, several: bool) -> dict[str, Any]:
    everything = {"includeAll": True, "multi": True, "current": {"text": ["All"], "value": ["$__all"]}}
    return {
        "type": "query",
        "name": name,
        "label": name,
        "description": text,
        "datasource": SOURCE,
        "query": query,
        "refresh": 2,  # with the time range: what came since is offered
        "sort": 3 if name == "partition" else 1,
        **(everything | {"allValue": ".+"} if several else {"includeAll": False, "multi": False}),
    }


def variables(*, one_partition: bool) -> list[dict[str, Any]]:
    """Offer what there is: jobs, their processes, the partitions these hold."""
    name = "stream_moe_build_info"
    chosen = 'job=~"$job"'
    held = f'stream_moe_events_consumed_total{{{chosen},instance=~"$instance"}}'
    return [
        _variable("job", f"label_values({name}, job)", "Scrape job of the daemons.", several=True),
        _variable("instance", f"label_values({name}{{{chosen}}}, instance)", "One process each.", several=True),
        _variable(
            "partition",
            f"label_values({held}, partition)",
            "Of the input topic; each has a model of its own.",
            several=not one_partition,
        ),
    ]


def laid_out(rows: list[tuple[str, list[Panel]]]) -> list[Panel]:
    """Number the panels and place them from left to right under the titles of their rows."""
    placed: list[Panel] = []
    y = 0
    for title, panels in rows:
        bar = {"type": "row", "title": title, "collapsed": False, "panels": []}
        placed.append({"id": len(placed) + 1, **bar, "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}})
        x, y, height = 0, y + 1, 0
        for panel in panels:
            position = panel["gridPos"]
            if x + position["w"] > WIDTH:
                x, y, height = 0, y + height, 0
            placed.append({"id": len(placed) + 1} | panel | {"gridPos": position | {"x": x, "y": y}})
            x, height = x + position["w"], max(height, position["h"])
        y += height
    return placed


def dashboard(
    uid: str,
    title: str,
    text: str,
    rows: list[tuple[str, list[Panel]]],
    *,
    choices: list[dict[str, Any]],
    marks: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Put a whole dashboard together."""
    link = {"type": "dashboards", "icon": "external link", "asDropdown": False, "targetBlank": False}
    return {
        "uid": uid,
        "title": f"stream_moe: {title}",
        "description": text,
        "tags": ["stream_moe"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        # All dashboards with the tag, the runbooks among them, at the same time and with the same choices.
        "links": [
            link | {"title": "stream_moe", "tooltip": "The other dashboards and the runbooks.",
                    "tags": ["stream_moe"], "includeVars": True, "keepTime": True}
        ],
        "templating": {"list": choices},
        "annotations": {"list": list(marks)},
        "panels": laid_out(rows),
    }  # fmt: skip
