"""The plots of a page as PNG or SVG files.

kaleido draws a figure in a headless Chrome and hands the file back: the very drawing of the page. A second way of
drawing that needs no browser would be a second set of plots to keep right.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stream_moe.errors import ConfigError, StreamMoeError
from stream_moe.plots.compare import Published, comparison_plots
from stream_moe.plots.run import run_plots
from stream_moe.plots.style import Plot

WIDTH = 900  # pixels; a PNG has twice as many
FORMATS = ("png", "svg")
_NEEDED = (
    "plots as files need a package more and a browser: pip install 'stream-moe[pictures]', and Chrome or Chromium"
)


def check_installed() -> None:
    """Raise ConfigError where plots cannot be made: before the work, not after it."""
    try:
        import kaleido  # noqa: F401
        from choreographer.browsers.chromium import Chromium
    except ImportError:
        raise ConfigError(_NEEDED) from None
    if Chromium.find_browser(skip_local=False) is None:
        raise ConfigError(f"no Chrome or Chromium is here; {_NEEDED} (the HTML page needs neither)")


def write_plots(
    results: Sequence[Mapping[str, Any]], folder: Path, form: str, published: Published | None = None
) -> list[Path]:
    """Write a file for each plot of a page of `results`; return their paths."""
    import kaleido

    plots = run_plots(results[0]) if len(results) == 1 else comparison_plots(results, published)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StreamMoeError(f"{folder}: {error.strerror}; name a directory you may write to") from None
    paths = [folder / f"{plot.name}.{form}" for plot in plots]
    look = {"format": form, "width": WIDTH, "scale": 2}
    wanted = [
        {"fig": figure, "path": path, "opts": look | {"height": figure.layout.height}}
        for figure, path in zip(map(_titled, plots), paths, strict=True)
    ]
    page = kaleido.PageGenerator(mathjax=False)  # no address outside this machine
    try:
        kaleido.write_fig_from_object_sync(wanted, kopts={"page_generator": page}, cancel_on_error=True)
    except Exception as error:  # of the browser, of the drawing or of the disk: kaleido has no one base for them
        raise StreamMoeError(f"{folder}: the plots could not be made: {type(error).__name__}: {error}") from error
    return paths


def _titled(plot: Plot) -> Any:
    """The figure on white with its title inside."""
    figure = type(plot.figure)(plot.figure)
    return figure.update_layout(
        title={"text": plot.title, "font": {"size": 16}, "x": 0.01, "y": 0.985, "yanchor": "top"},
        height=int(figure.layout.height) + 40, margin={"l": 16, "r": 16, "t": 56}, paper_bgcolor="white",
        font={"color": "#333"},
    )  # fmt: skip
