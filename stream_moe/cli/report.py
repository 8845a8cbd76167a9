"""`stream-moe report`: results as one HTML page, and as pictures."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from stream_moe.cli import options as o
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
    o.check_writable(out)
    from stream_moe.experiments.store import read_experiment

    found = [result for path in results for result in _read(path)]
    told = read_experiment(results[0]) if len(results) == 1 else {}
    if pictures is not None:
        from stream_moe.pictures.export import check_installed, write_pictures

        check_installed()
        for path in write_pictures(found, pictures, form.value, told.get("published")):
            typer.echo(path)
    if out is not None:
        from stream_moe.pictures.page import render_page

        o.write_text(out, render_page(found, title or told.get("name", ""), told.get("published")))
        typer.echo(out)


def _order(result: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(
        result.get(key) or default
        for key, default in (("stream", ""), ("label_delay", 0), ("model", ""), ("settings", ""), ("seed", 0))
    )


def _read(path: Path) -> list[dict[str, Any]]:
    from stream_moe.experiments.store import read_result

    if not path.is_dir():
        return [read_result(path)]
    files = sorted((path / "runs").glob("*.json")) or sorted(path.glob("*.json"))
    if not files:
        raise ConfigError(f"{path}: no results in it; give a directory of `stream-moe experiment` or a JSON file")
    found = [read_result(file) for file in files]
    return sorted(found, key=_order)
