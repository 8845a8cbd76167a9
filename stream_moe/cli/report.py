"""`stream-moe report`: results as one HTML page, and as pictures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stream_moe.cli.outputs import check_writable, write_text
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError


class Format(StrEnum):
    """Of a picture in a file."""

    PNG = "png"
    SVG = "svg"


def report(
    results: Annotated[
        list[Path],
        typer.Argument(metavar="RESULT...", help="Files of `replay --json`, or directories of `experiment`."),
    ],
    out: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page to this file.")] = None,
    pictures: Annotated[Path | None, typer.Option(help="Write the pictures to this directory; needs Chrome.")] = None,
    form: Annotated[Format, typer.Option("--format", help="Of those pictures.")] = Format.PNG,
    title: Annotated[str, typer.Option(help="Of the page; made of the results unless given.")] = "",
) -> None:
    """Show one result with all its pictures, or compare several."""
    if out is None and pictures is None:
        raise ConfigError("nothing to write: give --out FILE.html or --pictures DIR")
    check_writable(out)
    from stream_moe.experiments.store import read_experiment, read_result, read_results

    found = [each for path in results for each in (read_results(path) if path.is_dir() else [read_result(path)])]
    about = read_experiment(results[0]) if len(results) == 1 else {}
    try:
        if pictures is not None:
            from stream_moe.plots.export import check_installed, write_plots

            check_installed()
            for path in write_plots(found, pictures, form.value, about.get("published")):
                say(path)
        if out is not None:
            from stream_moe.plots.page import render_page

            write_text(out, render_page(found, title or about.get("name", ""), about.get("published")))
            say(out)
    except KeyError as error:
        raise ConfigError(f"a result has no {error}; make it again with `replay --json` of this version") from None
