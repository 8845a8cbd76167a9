"""Words for a person on the terminal."""

from __future__ import annotations

import typer

from stream_moe.shown import printable


def say(text: object = "", *, err: bool = False) -> None:
    """Print lines on stdout, or stderr; names and values in them cannot move the cursor or forge a line's beginning.

    Line breaks stay, so that names of others are to be put into lines by `printable` where that matters.
    """
    typer.echo(  # noqa: TID251
        printable(str(text), keep="\n"), err=err
    )
