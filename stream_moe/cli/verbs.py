"""A verb of the command line: a function of one class of settings, as typer takes it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, get_type_hints

import typer

from stream_moe.cli.flags import Flag, S, build, flags_of


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

    parameters = [flag.parameter for flag in flags]
    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    command.__signature__ = inspect.Signature([context, *parameters])  # type: ignore[attr-defined]
    command.__annotations__ = {each.name: each.annotation for each in [context, *parameters]}
    command.__name__, command.__doc__ = run.__name__, run.__doc__
    return command


def _is_given(context: typer.Context, flag: Flag) -> bool:
    source = context.get_parameter_source(flag.parameter.name)
    return source is not None and source.name == "COMMANDLINE"
