"""The command line: one file per verb. Heavy imports happen inside the verbs, so that --help is quick."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from inspect import Parameter, Signature
from typing import Any, get_type_hints

import typer
from typer.exceptions import TyperException

from stream_moe import __version__
from stream_moe.cli.audit import audit
from stream_moe.cli.datasets import datasets
from stream_moe.cli.demo import demo
from stream_moe.cli.experiment import experiment
from stream_moe.cli.export import export
from stream_moe.cli.flags import Flag, S, build, flags_of, refuse_secrets
from stream_moe.cli.inspect import inspect
from stream_moe.cli.produce import produce
from stream_moe.cli.replay import replay
from stream_moe.cli.report import report
from stream_moe.cli.run import run
from stream_moe.cli.schema import schema
from stream_moe.cli.signals import end_at_the_start
from stream_moe.cli.terminal import say
from stream_moe.errors import StreamMoeError, StuckError
from stream_moe.runtime.origin import check_connectors, leave_working_directory

INTERRUPTED = 130


def verb(run: Callable[[S], None]) -> Callable[..., None]:
    """Turn a function of one class of settings into one with a parameter for each option, as typer takes it."""
    kind: type[S] = get_type_hints(run)["settings"]
    flags = flags_of(kind)

    def command(context: typer.Context, **values: Any) -> None:
        named = {flag: values[flag.parameter.name] for flag in flags}
        if "config" in values:
            from stream_moe.cli.sources import read  # pydantic-settings, which few verbs need

            given = {flag: value for flag, value in named.items() if _is_given(context, flag)}
            run(read(kind, given, values["config"]))
        else:
            run(build(kind, named))

    context = Parameter("context", Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *(flag.parameter for flag in flags)]
    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in parameters}
    command.__name__, command.__doc__ = run.__name__, run.__doc__
    return command


def _is_given(context: typer.Context, flag: Flag) -> bool:
    source = context.get_parameter_source(flag.parameter.name)
    return source is not None and source.name == "COMMANDLINE"


app = typer.Typer(
    name="stream-moe",
    help="Streaming online learning: a learned mixture of drift-adaptive experts on a log of events.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_VERBS: dict[Callable[..., None], str] = {
    verb(demo): "Electricity prices through the whole loop, no broker needed.",
    verb(replay): "Score a model on a stream: test each event, then train on it.",
    verb(run): "The daemon: learn from Kafka and write predictions.",
    verb(produce): "Write the events of a stream to a Kafka topic.",
    verb(export): "Write the events of a stream to an .npz file.",
    verb(schema): "Show what is read of a file or a topic, and write its schema.",
    inspect: "Show a checkpoint, or why it is bad.",
    datasets: "List the streams that have names.",
    verb(audit): "Check a model for leaks of the label.",
    verb(experiment): "Make a grid of replays from a TOML file.",
    report: "Show results as a page or as pictures.",
}
for command, summary in _VERBS.items():
    app.command(short_help=summary)(command)


@app.callback(invoke_without_command=True)
def options(
    context: typer.Context, version: bool = typer.Option(False, "--version", help="Print the version and leave.")
) -> None:
    if version:
        say(__version__)
        raise typer.Exit
    if context.invoked_subcommand is None:
        say(context.get_help())


def main() -> None:
    """Run the command line; a user's mistake is one line on stderr and a non-zero exit."""
    # Where colorama is installed, numba would have it write an escape sequence at the end, whatever stdout is.
    os.environ.setdefault("NUMBA_DISABLE_ERROR_MESSAGE_HIGHLIGHTING", "1")
    leave_working_directory()
    if sys.argv[1:2] == ["run"]:
        end_at_the_start()
    try:
        check_connectors()
        refuse_secrets(sys.argv[1:])
        code = app(standalone_mode=False) or 0
        if code == INTERRUPTED:  # typer made an exit code of a KeyboardInterrupt
            raise KeyboardInterrupt
    except StuckError as error:  # a thread hangs in a call, and an orderly exit would wait for it
        os._exit(_fail(str(error), error.exit_code))
    except StreamMoeError as error:
        code = _fail(str(error), error.exit_code)
    except TyperException as error:
        code = _fail(_refused(error), error.exit_code)
    except KeyboardInterrupt:
        code = _fail("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output has gone; nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


def _refused(error: TyperException) -> str:
    """Say what typer found, with the value that it leaves out, and where the help is."""
    from pydantic_core import ValidationError

    message, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    refused = error.__cause__ or error.__context__
    if isinstance(refused, ValidationError):
        what, _, why = message.partition(": ")
        why = why.replace("Input should", "it should").removeprefix("Value error, ")
        message = f"{what} {refused.errors()[0]['input']!r}: {why}"
    return f"{message}; see {context.command_path if context else 'stream-moe'} --help"


def _fail(message: str, code: int) -> int:
    say("stream-moe: " + " ".join(message.split()), err=True)
    return code
