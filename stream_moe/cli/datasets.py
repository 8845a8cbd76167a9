"""`stream-moe datasets`: the streams that have names, and where they are."""

from __future__ import annotations

from typing import Annotated

import typer

from stream_moe.cli.outputs import check_writable, write_json
from stream_moe.cli.settings import JsonFile
from stream_moe.cli.terminal import say

_NUMBERS = ("events", "features", "classes")
_KEYS = ("name", *_NUMBERS, "licence", "where")


def datasets(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Only these; get them if need be, and check them.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """List the named streams with shape, licence and whereabouts; given names, get those and check them."""
    check_writable(json)
    from stream_moe.errors import ConfigError
    from stream_moe.experiments.table import aligned
    from stream_moe.streams import GENERATED, open_stream
    from stream_moe.streams.datasets import whereabouts
    from stream_moe.streams.registry import DATA_SETS

    for name in names or ():
        if name not in DATA_SETS:
            raise ConfigError(f"{name!r} is not a data set; the data sets are {', '.join(DATA_SETS)}")
    schemas = {} if names else {name: open_stream(name).schema for name in GENERATED}
    rows: list[tuple[str | int | None, ...]]
    rows = [(name, None, each.n_features, each.n_classes, "-", "generated") for name, each in schemas.items()]
    for data_set in [DATA_SETS[name] for name in names or DATA_SETS]:
        if names:
            open_stream(data_set.name)  # downloads it where it is not here, and checks it in any case
        shape = (data_set.name, data_set.events, data_set.features, data_set.classes)
        rows.append((*shape, data_set.licence, whereabouts(data_set)))
    words = [n for n, key in enumerate(_KEYS) if key not in _NUMBERS]
    say("\n".join(aligned([_KEYS, *([_text(cell) for cell in row] for row in rows)], words)))
    write_json(json, {"streams": [dict(zip(_KEYS, row, strict=True)) for row in rows]})


def _text(cell: str | int | None) -> str:
    return "endless" if cell is None else cell if isinstance(cell, str) else f"{cell:,}"
