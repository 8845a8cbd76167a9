"""The settings that verbs have in common, in groups; the command line, TOML, environment and log all read them here.

A group is a table of `run --config` by the name of its field in `RunSettings`, and `STREAM_MOE_<TABLE>_<KEY>` in the
environment; a field that is no option is read from there alone.
"""

from __future__ import annotations

import csv
import ctypes
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeAlias

from annotated_types import Interval
from typer import Argument, Option

from stream_moe.cli.flags import Settings
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError
from stream_moe.models.catalogue import build_model, check_name, model_names
from stream_moe.runtime.extras import need
from stream_moe.runtime.files import read_text
from stream_moe.telemetry import DEFAULT_PORT

if TYPE_CHECKING:
    from connectors.kafka import KafkaSettings
    from stream_moe.answers import AnswerRule
    from stream_moe.models.contract import BlockClassifier
    from stream_moe.ports import SchemaRegistry, Stream
    from stream_moe.types import Schema

    MakeLearner: TypeAlias = Callable[[Schema], BlockClassifier]

DEFAULT_MODEL, NUMBER_MODEL = "driftmoe", "driftmoe-regressor"
ON_CUDA = {"driftmoe-data"}  # whose router a device can hold
MODEL_PER = ("partition", "key")
SECRETS = ("sasl_password", "ssl_key_password")  # of Kafka; each may be in a file, <name>_file
HIDDEN = (*SECRETS, "sasl_token_command")  # what is not shown

ANY_PORT = f"[default: {DEFAULT_PORT}, any if taken]"
AT_LEAST_0, AT_LEAST_1, PORTS = Interval(ge=0), Interval(ge=1), Interval(ge=0, le=65535)
StreamName = Annotated[str, Argument(metavar="STREAM", help="Name of a stream, maybe with :OPTION=VALUE, or a file.")]
Events = Annotated[int | None, AT_LEAST_1, Option(help="How many events; needed where a stream is endless.")]
StreamSeed = Annotated[int, AT_LEAST_0, Option(help="Of a generated stream.")]
Label = Annotated[str | None, Option(help="Label column of a file; its last one unless named.")]
Nominal = Annotated[
    str, Option(metavar="A,B", help="Columns of a file to take as nominal; one with a comma in double quotes.")
]
Rate = Annotated[float | None, Option(help="Events per second; unlimited unless given.")]
ModelPer = Annotated[str, Option("--model-per", help="partition: one model for each; key: one for each record key.")]
MaxKeys = Annotated[
    int,
    AT_LEAST_1,
    Option(help="Keys that have a model, per partition; for one more the least recent is forgotten."),
]
JsonFile = Annotated[Path | None, Option("--json", help="Write the result to this file.")]
JsonLogs = Annotated[bool, Option(help="Settings, progress and result as JSON lines on stderr instead.")]
Quiet = Annotated[bool, Option(help="Print nothing but errors.")]
Config = Annotated[Path | None, Option(help="TOML file with a [kafka] table: TLS, SASL and topic names.")]


class Source(Settings):
    """A stream."""

    stream: StreamName
    events: Events = None
    label: Label = None
    nominal: Nominal = ""
    drop: Annotated[str, Option(metavar="A,B", help="Columns of a file to leave out.")] = ""
    missing: Annotated[
        list[str], Option(metavar="TEXT", help='A text of a file that means "no value"; may be repeated.')
    ] = field(default_factory=list)
    decimal: Annotated[str | None, Option(metavar=".|,", help="What parts decimals in a file.")] = None
    thousands: Annotated[str | None, Option(metavar="CHAR", help="What parts thousands in a file.")] = None
    separator: Annotated[str | None, Option(metavar="CHAR", help="What parts the columns of a CSV.")] = None
    encoding: Annotated[str | None, Option(metavar="NAME", help="What a text file is in, as latin-1.")] = None
    unpacked: Annotated[
        int | None,
        AT_LEAST_1,
        Option(metavar="MB", help="What a file may become in memory.  [default: 256, or 100 times its size]"),
    ] = None

    classes: Annotated[
        bool | None,
        Option(
            "--classes/--number",
            help="Whether a file's label is a class or a number to predict; its values decide unless given.",
        ),
    ] = None

    def open(self, seed: int, delay: str | None = None, *, numbers: bool = False) -> Stream:
        """Open it; `delay` names the column that says how late each label is.

        ConfigError where its label is a number, unless those are taken.
        """
        from stream_moe.streams import open_stream

        stream = open_stream(
            self.stream,
            seed=seed,
            label=self.label,
            nominal=split_names(self.nominal),
            delay=delay,
            drop=split_names(self.drop),
            missing=self.missing,
            decimal=self.decimal,
            thousands=self.thousands,
            separator=self.separator,
            encoding=self.encoding,
            unpacked=self.unpacked,
            classes=self.classes,
        )
        if (target := stream.schema.target) is not None and not numbers:
            raise ConfigError(
                f"{self.stream}: the label {target.name!r} is a number, which only `replay` predicts so far; "
                "--classes takes the values of a file as classes"
            )
        return stream


class Model(Settings):
    """Which model learns, and how it is built."""

    name: Annotated[
        str,
        Option(
            "--model",
            help=f"Which model learns: {', '.join(model_names())}, river:CLASS(...), capymoa:CLASS(...), or a class "
            "of your own, package.module:Class, whose code RUNS then; where the label is a number: "
            f"{NUMBER_MODEL}, which is the default then.",
        ),
    ] = DEFAULT_MODEL
    experts: Annotated[
        list[str],
        Option(
            "--expert",
            metavar="package.module:Class",
            help="An expert of your own beside those of driftmoe, whose code RUNS then; may be repeated.",
        ),
    ] = field(default_factory=list)
    seed: Annotated[int, AT_LEAST_0, Option(help="Of the model, and of a generated stream.")] = 1
    set: Annotated[
        list[str], Option("--set", metavar="KEY=VALUE", help="A parameter of the model; may be repeated.")
    ] = field(default_factory=list)
    class_weight: Annotated[
        list[str],
        Option(
            metavar="CLASS=W", help="How much events of a class count in learning, 1 unless said; may be repeated."
        ),
    ] = field(default_factory=list)
    threads: Annotated[int, Interval(ge=1, le=1024), Option(help="Threads over the experts; changes no result.")] = 1
    device: Annotated[str, Option(help="Where the router lives: cpu, cuda (needs the extra torch) or auto.")] = "auto"

    @property
    def parameters(self) -> dict[str, str]:
        """The words of --set taken apart; of a key given twice the last counts."""
        found = {}
        for setting in self.set:
            key, equals, value = setting.partition("=")
            if not (key and equals):
                raise ConfigError(f"--set {setting!r}: write it as KEY=VALUE")
            found[key.strip()] = value.strip()
        return found

    @property
    def class_weights(self) -> dict[str, float]:
        """The words of --class-weight taken apart."""
        found: dict[str, float] = {}
        for setting in self.class_weight:
            name, equals, weight = setting.rpartition("=")
            try:
                found[name.strip()] = float(weight)
            except ValueError:
                equals = ""
            if not (name.strip() and equals):
                raise ConfigError(f"--class-weight {setting!r}: write it as CLASS=W, W a number")
        return found

    def for_schema(self, schema: Schema) -> str:
        """Return the name of the model that learns a schema: where none was named, one that fits its target."""
        return self.name if schema.target is None or self.name != DEFAULT_MODEL else NUMBER_MODEL

    def factory(self) -> MakeLearner:
        """Return what builds the model for a schema; ConfigError for a model or parameter that does not exist."""
        check_name(self.name)
        options, device, threads, class_weight = self.parameters, self.find_device(), self.threads, self.class_weights
        if threads > (cores := os.cpu_count() or threads):
            say(f"stream-moe: --threads {threads}: this machine has {cores} cores; {cores} are used", err=True)
            threads = cores
        return lambda schema: build_model(
            self.name,
            schema,
            seed=self.seed,
            threads=threads,
            device=device,
            options=options,
            class_weight=class_weight,
            experts=self.experts,
        )

    def find_device(self) -> str:
        """Return cpu or cuda for what --device says."""
        if self.device not in {"cpu", "cuda", "auto"}:
            raise ConfigError(f"--device {self.device!r}: choose cpu, cuda or auto")
        if self.device == "auto":
            return "cuda" if self.name in ON_CUDA and _finds_cuda() else "cpu"
        if self.device == "cuda" and not need("torch", "torch", "--device cuda").cuda.is_available():
            raise ConfigError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
        return self.device


class CpuModel(Model):
    """A model that stays on the CPU."""

    device: str = "cpu"


class Answers(Settings):
    """Which class is answered; what is learnt does not depend on it."""

    cost: Annotated[
        str | None,
        Option(
            metavar="TRUTH:ANSWER=COST,...|FILE",
            help="Answer the class of least expected cost; or a .toml or .csv file. What is not named costs 1.",
        ),
    ] = None
    threshold: Annotated[
        str | None, Option(metavar="CLASS=P", help="Answer this class from this probability on, 0 to 1.")
    ] = None

    def rule(self) -> AnswerRule:
        """Return how a class follows from the probabilities; ConfigError where the options are no such rule."""
        from stream_moe.answers import AnswerRule

        return AnswerRule.read(self.cost, self.threshold)


class Kafka(Settings):
    """Brokers, topics and credentials; None = as `KafkaSettings` has it."""

    bootstrap: Annotated[str, Option(metavar="HOST:PORT", help="Kafka brokers, separated by commas.")] = (
        "localhost:9092"
    )
    topic: Annotated[str, Option(help="Input topic.")] = "events"
    labels: Annotated[
        str | None, Option(help="Topic of the labels, if not the input topic; with as many partitions.")
    ] = None
    journal: Annotated[
        str | None, Option(help="With --labels: topic for the order of the two.  [default: GROUP-TOPIC-journal]")
    ] = None
    predictions: Annotated[str, Option(help="Output topic.")] = "predictions"
    dead_letters: Annotated[str, Option(help="Topic for what cannot be read.")] = "dead-letters"
    drifts: Annotated[str | None, Option(help="Topic for drifts found, in the same transactions.")] = None
    group: Annotated[str, Option(help="Consumer group.")] = "stream-moe"
    guarantee: Annotated[str, Option(help="Or at-least-once.")] = "exactly-once"
    batch_memory: Annotated[
        int,
        Interval(ge=1, le=1024),
        Option(metavar="MB", help="What a compressed batch may unpack to; a larger one is a dead letter."),
    ] = 64
    security_protocol: str | None = None
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    sasl_password_file: Path | None = None
    sasl_token_url: str | None = None
    sasl_token_command: str | None = field(default=None, repr=False)
    sasl_token_file: Path | None = None
    sasl_aws_region: str | None = None
    sasl_scope: str | None = None
    sasl_token_ca: Path | None = None
    sasl_extensions: str | None = None
    ssl_ca: Path | None = None
    ssl_cert: Path | None = None
    ssl_key: Path | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    ssl_key_password_file: Path | None = None
    allow_plaintext_password: bool | None = None

    def settings(self, **changes: Any) -> KafkaSettings:
        """Return what the connector takes; ConfigError where settings do not fit together."""
        from pydantic import SecretStr

        from connectors.kafka import KafkaSettings

        values = with_secrets({each.name: getattr(self, each.name) for each in fields(self)} | changes)
        given = {name: value for name, value in values.items() if value is not None}
        return KafkaSettings(**given | {name: SecretStr(given[name]) for name in HIDDEN if name in given})


class Registry(Settings):
    """Where the schemas are of records in Avro, Protobuf or JSON Schema, and who we are there."""

    url: Annotated[
        str | None,
        Option("--registry", metavar="URL", help="Schema registry, for records in Avro, Protobuf or JSON Schema."),
    ] = None
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    ca: Path | None = None

    def open(self) -> SchemaRegistry | None:
        """Return it, None where none is named; ConfigError where settings do not fit together."""
        if self.url is None:
            return None
        from pydantic import SecretStr

        from connectors.registry import HttpRegistry

        given = with_secrets({"password": self.password, "password_file": self.password_file}, ("password",))
        password = given["password"]
        return HttpRegistry(self.url, self.username, None if password is None else SecretStr(password), self.ca)

    def secrets(self) -> list[str]:
        """List what must never be shown."""
        found = with_secrets({"password": self.password, "password_file": self.password_file}, ("password",))
        return [found["password"]] if found["password"] else []


class Output(Settings):
    """What is shown, and where the result goes."""

    json: JsonFile = None
    json_logs: JsonLogs = False
    quiet: Quiet = False

    @property
    def speaks(self) -> bool:
        """Whether a person reads what goes to stdout."""
        return not (self.quiet or self.json_logs)


class PlainOutput(Output):
    """Of a verb without logs."""

    flags: ClassVar = ("json", "quiet")


def with_secrets(values: dict[str, Any], names: Sequence[str] = SECRETS) -> dict[str, Any]:
    """Read the secrets that lie in files; ConfigError, which names the key, where that fails."""
    values = dict(values)
    for name in names:
        if (file := values.pop(f"{name}_file", None)) is not None:
            if not isinstance(file, str | Path):
                raise ConfigError(f"{name}_file: a {type(file).__name__}; name a file that holds the secret")
            values[name] = read_text(Path(file), f"{name}_file: {file}").strip()
            if not values[name]:
                raise ConfigError(f"{name}_file: {file} is empty; write the secret into it")
    return values


@cache
def _finds_cuda() -> bool:
    """Whether there is a device that torch can use; what stands in the way of using one is told once."""
    if not _has_driver():
        return False
    try:
        return bool(need("torch", "torch", "--device auto").cuda.is_available())
    except ConfigError as error:
        say(f"stream-moe: {error}; the router stays on the CPU", err=True)
        return False


def _has_driver() -> bool:
    """Whether a GPU's driver is here (NVIDIA's library, AMD's device): loading torch to ask takes 2 s and 400 MiB."""
    if Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return False
    return True


def choice(flag: str, given: str, choices: Iterable[str]) -> Any:
    """Return what was given; ConfigError unless it is one of the choices."""
    if given not in choices:
        raise ConfigError(f"{flag} {given!r}: choose {' or '.join(choices)}")
    return given


def split_names(names: str) -> list[str]:
    """Split a comma-separated option; a name with a comma in it stands in double quotes, as in CSV.

    >>> split_names('colour, "Temp, C"')
    ['colour', 'Temp, C']
    """
    return [name.strip() for name in next(csv.reader([names], skipinitialspace=True), []) if name.strip()]
