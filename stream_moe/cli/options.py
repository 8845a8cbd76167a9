"""Options that several verbs share, and what becomes of them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_moe.errors import ConfigError, StreamMoeError
from stream_moe.models.catalogue import build_model, check_name, model_names

if TYPE_CHECKING:
    from stream_moe.models.contract import BlockClassifier
    from stream_moe.types import Schema

DEFAULT_MODEL = "driftmoe"
ON_CUDA = {"driftmoe-data"}  # whose router a device can hold

Stream = Annotated[
    str, typer.Argument(metavar="STREAM", help="Name of a stream, maybe with :OPTION=VALUE, or a file.")
]
Events = Annotated[int | None, typer.Option(min=1, help="How many events; needed where a stream is endless.")]
Seed = Annotated[int, typer.Option(min=0, help="Of the model, and of a generated stream.")]
StreamSeed = Annotated[int, typer.Option(min=0, help="Of a generated stream.")]
Label = Annotated[str | None, typer.Option(help="Label column of a file; its last one unless named.")]
Nominal = Annotated[str, typer.Option(metavar="A,B", help="Columns of a file to take as nominal.")]
Model = Annotated[
    str,
    typer.Option(help=f"Which model learns: {', '.join(model_names())}, river:CLASS(...) or capymoa:CLASS(...)."),
]
Settings = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A parameter of the model; may be repeated.")
]
MODEL_PER = ("partition", "key")
ModelPer = Annotated[str, typer.Option(help="partition: one model for each; key: one for each record key.")]
MaxKeys = Annotated[
    int,
    typer.Option(min=1, help="Keys that have a model, per partition; for one more the least recent is forgotten."),
]
Threads = Annotated[int, typer.Option(min=1, max=1024, help="Threads over the experts; changes no result.")]
Device = Annotated[str, typer.Option(help="Where the router lives: cpu, cuda or auto.")]
JsonLogs = Annotated[
    bool, typer.Option("--json-logs", help="Settings, progress and result as JSON lines on stderr instead.")
]
JsonFile = Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")]
Bootstrap = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Kafka brokers, separated by commas.  [default: localhost:9092]"),
]
Config = Annotated[Path | None, typer.Option(help="TOML file with a [kafka] table: TLS, SASL and topic names.")]


# A flag by such a name holds a secret, unless it only says where the secret lies.
_SECRET_FLAG = re.compile(r"--[\w-]*(passw|passphrase|secret|token|credential|api-?key)[\w-]*(?<!-file)(=|$)", re.I)
_URL_PASSWORD = re.compile(r"://[^\s/:@]*:[^\s/@]+@")


def refuse_secrets(arguments: Iterable[str]) -> None:
    """Raise ConfigError where a secret is on the command line, without repeating it."""
    for argument in arguments:
        if found := _SECRET_FLAG.match(argument):
            flag = found[0].rstrip("=")
            what, way_out = flag, "STREAM_MOE_KAFKA_SASL_PASSWORD_FILE names a file for Kafka's"
        elif _URL_PASSWORD.search(argument):
            what, way_out = (
                "an address with a password in it",
                "object stores look there by themselves",
            )
        else:
            continue
        raise ConfigError(
            f"{what}: every user of this machine can read the command line in its process list; "
            f"put secrets into a file or the environment ({way_out})"
        )


def learner_factory(
    model: str, seed: int, settings: list[str], threads: int, device: str
) -> Callable[[Schema], BlockClassifier]:
    """Return what builds the model for a schema; ConfigError for a model or parameter that does not exist."""
    check_name(model)
    options, device = parse_settings(settings), find_device(model, device)
    cores = os.cpu_count() or threads
    if threads > cores:
        typer.echo(f"stream-moe: --threads {threads}: this machine has {cores} cores; {cores} are used", err=True)
        threads = cores

    def build(schema: Schema) -> BlockClassifier:
        return build_model(model, schema, seed=seed, threads=threads, device=device, options=options)

    return build


def parse_settings(settings: list[str]) -> dict[str, str]:
    """Take the words of --set apart; of a key given twice the last counts."""
    options = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not (key and equals):
            raise ConfigError(f"--set {setting!r}: write it as KEY=VALUE")
        options[key.strip()] = value.strip()
    return options


def find_device(model: str, device: str) -> str:
    """Return cpu or cuda for what --device says."""
    if device not in {"cpu", "cuda", "auto"}:
        raise ConfigError(f"--device {device!r}: choose cpu, cuda or auto")
    if device == "auto":
        return "cuda" if model in ON_CUDA and _cuda_is_here() else "cpu"
    if device == "cuda" and not _cuda_is_here():
        raise ConfigError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    return device


def per_key(
    make: Callable[[Schema], BlockClassifier], key: str, max_keys: int
) -> Callable[[Schema], BlockClassifier]:
    """Return what builds a model for each value of a feature."""
    from stream_moe.models.keyed.learner import KeyedLearner

    return lambda schema: KeyedLearner(schema, make=make, max_keys=max_keys, key_feature=key)


def _cuda_is_here() -> bool:
    import torch

    return torch.cuda.is_available()


def choice(flag: str, given: str, choices: Iterable[str]) -> Any:
    """Return what was given; ConfigError unless it is one of the choices."""
    if given not in choices:
        raise ConfigError(f"{flag} {given!r}: choose {' or '.join(choices)}")
    return given


def split_names(names: str) -> list[str]:
    """Split a comma-separated option."""
    return [name.strip() for name in names.split(",") if name.strip()]


def write_json(path: Path | None, content: dict[str, Any]) -> None:
    """Write a result as JSON, if a file was asked for."""
    if path is not None:
        write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file a user named; an error is one line."""
    try:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")  # of names of files, in a plain locale
    except OSError as error:
        raise StreamMoeError(f"{path}: {error.strerror}; name a file in a directory you may write to") from None


def check_writable(*paths: Path | None) -> None:
    """Fail before the work, not after it, where a result could not be written."""
    for path in paths:
        if path is None:
            continue
        if not path.parent.is_dir():
            raise ConfigError(f"{path}: the directory {str(path.parent)!r} does not exist; create it first")
        if path.is_dir():
            raise ConfigError(f"{path}: is a directory; name a file in it")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise ConfigError(f"{path}: may not be written; name a file in a directory you may write to")
