"""How every plot looks: colours, axes, and what a plot is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

# Okabe and Ito's hues, safe for colour-blind eyes, each with a contrast of 3 or more on white and on the dark page.
PALETTE = ("#2F7FC1", "#C77700", "#00946A", "#D55E00", "#B4659A", "#3A96C8", "#808080")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash")
GREY = "#808080"
ALARM = "#D55E00"
HEAT = "Cividis"  # even steps for colour-blind eyes, and in grey
_GRID = "rgba(128,128,128,0.25)"
SLIM = 16  # pixels of a row of a heat map


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure with its title and a sentence on how to read it; `name` is for files and addresses."""

    name: str
    title: str
    words: str
    figure: go.Figure


def new_figure(*, height: int = 320, x: str = "", y: str = "", **layout: Any) -> go.Figure:
    """Make an empty figure in our style; it has no title, for a page sets that as text that can wrap."""
    axis = {"gridcolor": _GRID, "zerolinecolor": _GRID, "linecolor": _GRID, "automargin": True}
    base: dict[str, Any] = {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 12, "b": 8},
        "font": {"family": "system-ui, sans-serif", "size": 12, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        "xaxis": {**axis, "title": {"text": x, "standoff": 8}},
        "yaxis": {**axis, "title": {"text": y, "standoff": 8}},
        "dragmode": False,  # a finger scrolls the page
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY},
    }
    figure = go.Figure(layout=base)
    figure.update_layout(**layout)
    return figure


def over_events(*, height: int = 320, y: str = "", **layout: Any) -> go.Figure:
    """Make an empty figure whose x axis is the stream."""
    figure = new_figure(height=height, x="events", y=y, hovermode="x unified", **layout)
    figure.update_xaxes(tickformat="~s", hoverformat=",d", rangemode="tozero")
    return figure


def colour(n: int) -> str:
    return PALETTE[n % len(PALETTE)]


def dash(n: int) -> str:
    return DASHES[n // len(PALETTE) % len(DASHES)]
