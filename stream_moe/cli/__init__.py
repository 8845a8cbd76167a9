"""The command line: one file per verb. Heavy imports happen inside the verbs, so that --help is quick."""

from __future__ import annotations

import os
import sys

import typer
from typer.exceptions import TyperException

from stream_moe import __version__
from stream_moe.cli.audit import audit
from stream_moe.cli.datasets import datasets
from stream_moe.cli.demo import demo
from stream_moe.cli.experiment import experiment
from stream_moe.cli.export import export
from stream_moe.cli.inspect import inspect
from stream_moe.cli.options import refuse_secrets
from stream_moe.cli.produce import produce
from stream_moe.cli.replay import replay
from stream_moe.cli.report import report
from stream_moe.cli.run import run
from stream_moe.errors import StreamMoeError, StuckError

INTERRUPTED = 130
app = typer.Typer(
    name="stream-moe",
    help="Streaming online learning: a learned mixture of drift-adaptive experts on a log of events.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for verb in (demo, replay, run, produce, export, inspect, datasets, audit, experiment, report):
    app.command()(verb)


@app.callback(invoke_without_command=True)
def options(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and a non-zero exit."""
    try:
        refuse_secrets(sys.argv[1:])
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # typer made an exit code of a KeyboardInterrupt
            raise KeyboardInterrupt
    except StuckError as error:  # a thread hangs in a call, and an orderly exit would wait for it
        os._exit(_fail(str(error), error.exit_code))
    except StreamMoeError as error:
        code = _fail(str(error), error.exit_code)
    except TyperException as error:
        code = _fail(f"{error.format_message()} (see stream-moe --help)", error.exit_code)
    except KeyboardInterrupt:
        code = _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone; nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _fail(message: str, code: int) -> int:
    typer.echo("stream-moe: " + " ".join(message.split()), err=True)
    return code
