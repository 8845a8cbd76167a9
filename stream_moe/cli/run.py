"""`stream-moe run`: the daemon on Kafka."""

from __future__ import annotations

import time
from dataclasses import field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from annotated_types import Interval
from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings, shown
from stream_moe.cli.outputs import JsonFile, OutputList, check_writable
from stream_moe.cli.progress import make_display
from stream_moe.cli.records import Records
from stream_moe.cli.start import forbid_core_dumps, log_settings, start_logs
from stream_moe.errors import ConfigError
from stream_moe.models.catalogue import is_own
from stream_moe.models.keyed.settings import MAX_KEYS, MEMORY_BYTES, KeySettings, NullKey

if TYPE_CHECKING:
    from connectors.kafka import KafkaSettings, KafkaSource
    from stream_moe.engine.loop import EngineSettings
    from stream_moe.formats.framing import Formats
    from stream_moe.ports import Reader, SchemaRegistry, Sink, Source
    from stream_moe.telemetry.access import Access
    from stream_moe.types import Schema


class Metrics(Settings):
    """Where /metrics and the live page are served, and to whom."""

    port: Annotated[
        int | None, s.PORTS, Option("--metrics-port", help=f"Port of /metrics, 0 = any.  {s.ANY_PORT}")
    ] = None
    host: Annotated[str, Option("--metrics-host", help="Address to serve metrics on.")] = "127.0.0.1"
    names: Annotated[
        list[str],
        Option("--metrics-name", metavar="NAME", help="A name that clients call it by, beside its own; repeatable."),
    ] = field(default_factory=list)
    cert: Annotated[Path | None, Option("--metrics-cert", help="Serve metrics over TLS: certificate (PEM).")] = None
    key: Annotated[Path | None, Option("--metrics-key", help="Its key (PEM), unless in the same file.")] = None
    auth_file: Annotated[
        Path | None, Option("--metrics-auth-file", help="Who may read the metrics, a line USER:HASH each.")
    ] = None

    def access(self) -> Access:
        """Read certificates and passwords."""
        from stream_moe.telemetry.access import load_access

        return load_access(self.cert, self.key, self.auth_file)


class Engine(Settings):
    """How the loop runs."""

    until_caught_up: Annotated[
        bool, Option(help="Leave at the end that each partition had when it was assigned.")
    ] = False
    checkpoint_events: Annotated[int, s.AT_LEAST_1, Option(help="Checkpoint after so many records.")] = 100_000
    checkpoint_seconds: Annotated[float, Interval(ge=0.1), Option(help="... or after so many seconds.")] = 60.0
    block_rows: Annotated[int, s.AT_LEAST_1, Option(help="At most so many records per block.")] = 4096
    max_waiting: Annotated[
        int, s.AT_LEAST_1, Option(help="At most so many events wait for a label, and labels for an event.")
    ] = 100_000
    label_seconds: Annotated[
        float, Interval(ge=0.001), Option(help="... and no longer than this, by the records' timestamps.")
    ] = 86_400.0


class Keys(Settings):
    """Whether each record key has a model, and the bounds of these models."""

    per: s.ModelPer = "partition"
    null_key: Annotated[
        str, Option(help="Records without a key: shared (one model for all of them) or dead-letter.")
    ] = "shared"
    max_keys: s.MaxKeys = MAX_KEYS
    memory: Annotated[
        int,
        s.AT_LEAST_1,
        Option("--key-memory", metavar="MB", help="What models in memory may take together; more go to disk."),
    ] = MEMORY_BYTES >> 20

    def settings(self) -> KeySettings | None:
        """Return the bounds, None where a partition has one model; ConfigError for a word that is no choice."""
        null_key = s.choice("--null-key", self.null_key, get_args(NullKey))
        bounds = KeySettings(null_key, max_keys=self.max_keys, memory_bytes=self.memory << 20)
        return bounds if s.choice("--model-per", self.per, s.MODEL_PER) == "key" else None


class DaemonOutput(s.Output):
    """What is shown of a daemon."""

    quiet: Annotated[bool, Option(help="Print nothing but logs and errors.")] = False


class Local(Settings):
    """Where events come from, if not from Kafka."""

    source: Annotated[
        str, Option(metavar="kafka|-|FOLDER", help="Events: Kafka, standard input, or files that arrive in a folder.")
    ] = "kafka"
    out: Annotated[
        Path | None, Option(metavar="FOLDER", help="... then: folder of the output files.  [default: STATE_DIR/out]")
    ] = None


class RunSettings(Settings):
    """Of `run`."""

    state_dir: Annotated[
        str, Option(help="Directory of the checkpoints, or URL of an object store (s3://bucket/states).")
    ]
    kafka: s.Kafka = s.Kafka()
    predictions_format: Annotated[
        str, Option(help="Of predictions: json, or avro, by a schema that is registered.")
    ] = "json"
    records: Records = Records()
    model: s.Model = s.Model()
    answers: s.Answers = s.Answers()
    metrics: Metrics = Metrics()
    engine: Engine = Engine()
    keys: Keys = Keys()
    registry: s.Registry = s.Registry()
    local: Local = Local()
    config: s.Config = None
    output: DaemonOutput = DaemonOutput()

    @property
    def schema(self) -> str | None:
        """File or name of the schema, if one is given."""
        return self.records.schema

    def engine_settings(self) -> EngineSettings:
        """Return what the engine takes."""
        from stream_moe.engine.loop import EngineSettings

        loop = {each.name: getattr(self.engine, each.name) for each in fields(self.engine)}
        keys = self.keys.settings()
        records = self.records.engine_settings(keys=keys is not None, labels=self.kafka.labels is not None)
        return EngineSettings(self.model.name, **loop, **records, keys=keys, answers=self.answers.rule())


def run(settings: RunSettings) -> None:
    """Consume events, predict, learn, and write predictions; resumes where it stopped.

    One model for each partition of the input topic, or for each record key. Processes with the same group share the
    partitions, on as many machines as you like; --state-dir is then a directory that all see, or an object store.
    """
    if settings.local.source != "kafka":
        from stream_moe.cli.local import run_local

        return run_local(settings, model_factory(settings), load_schema(settings.schema))
    started = time.perf_counter()
    model, output = settings.model, settings.output
    check_writable(output.json)
    from connectors.objects import check_address, open_store

    check_address("--state-dir", settings.state_dir)
    forbid_core_dumps()
    kafka = settings.kafka.settings()
    start_logs(output.quiet, output.json_logs, [*kafka.secrets(), *settings.registry.secrets()])
    from connectors.kafka import KafkaSink, KafkaSource
    from connectors.names import folder_name, former_name
    from stream_moe.cli.serving import KafkaServing, ended_if_stuck
    from stream_moe.engine import loop
    from stream_moe.formats.framing import Formats

    make_learner, rule = model_factory(settings), settings.answers.rule()
    events = KafkaSource(kafka)
    registry = settings.registry.open()
    formats = None if registry is None else Formats(registry)
    source = _journaled(kafka, events, formats)
    sink = _sink(settings, KafkaSink(kafka, events), registry)
    title = f"{kafka.topic}   {model.name}, seed {model.seed}"
    outputs = OutputList([make_display(title, None, output.quiet, output.json_logs), JsonFile(output.json)])
    metrics = settings.metrics
    serving = KafkaServing(events, metrics.host, metrics.port, outputs, metrics.access(), metrics.names)
    with serving.server, ended_if_stuck(serving.health):
        make_engine = partial(
            loop.Engine,
            source,
            sink,
            lambda partition: open_store(
                settings.state_dir,
                folder_name(kafka.group, kafka.topic, partition),
                former_name(kafka.group, kafka.topic, partition),
            ),
            make_learner,
            replace(settings.engine_settings(), read=None if formats is None else formats.read),
            schema=load_schema(settings.schema),
        )
        where = {"metrics": serving.server.url, "set": model.parameters, "device": model.find_device()}
        log_settings("run", shown(settings) | _kafka_settings(kafka) | where)
        about = {"model": model.name, "stream": kafka.topic, "seed": model.seed, "answers": rule.text}
        serving.run(make_engine, about, started)


def model_factory(settings: RunSettings) -> s.MakeLearner:
    """Return what builds the model for a schema; a wrong word is an error before anything is opened."""
    name = settings.model.name
    if ":" in name and not is_own(name):
        raise ConfigError(f"--model {name}: the state of another library's model cannot be kept; replay takes it")
    make_learner = settings.model.factory()
    if (keys := settings.keys.settings()) is not None:
        from stream_moe.models.keyed.factory import for_each_key

        make_learner = for_each_key(make_learner, keys)
    return make_learner


def _journaled(kafka: KafkaSettings, events: KafkaSource, formats: Formats | None) -> Source:
    """Return the events, with the labels between them where these have a topic of their own.

    With `formats` neither comes before its schemas are known.
    """
    from stream_moe.formats.ports import FramedReader, FramedSource

    source: Source = events if formats is None else FramedSource(events, formats)
    if kafka.labels is None or kafka.journal_topic is None:
        return source
    from connectors.kafka import KafkaReader
    from stream_moe.engine.journal import JournaledSource

    labels: Reader = KafkaReader(kafka, kafka.labels)
    if formats is not None:
        labels = FramedReader(labels, formats)
    return JournaledSource(source, labels, KafkaReader(kafka, kafka.journal_topic))


def _sink(settings: RunSettings, sink: Sink, registry: SchemaRegistry | None) -> Sink:
    """Return where outputs go, predictions in the format that is wanted."""
    from stream_moe.formats.ports import AvroSink
    from stream_moe.formats.writing import AvroPredictions

    if s.choice("--predictions-format", settings.predictions_format, ("json", "avro")) == "json":
        return sink
    if registry is None:
        raise ConfigError("--predictions-format avro: name the schema registry with --registry URL")
    return AvroSink(sink, AvroPredictions(registry, f"{settings.kafka.predictions}-value"))


def _kafka_settings(kafka: KafkaSettings) -> dict[str, Any]:
    """Return what matters with this security protocol."""
    settings = {field.name: getattr(kafka, field.name) for field in fields(kafka)}
    idle = ("sasl_", "allow_") if "SASL" not in kafka.security_protocol else ()
    return {name: value for name, value in settings.items() if not (idle and name.startswith(idle))}


def load_schema(name: str | None) -> Schema | None:
    """Read a schema from a JSON file, or take a benchmark's; None where none is named."""
    if name is None:
        return None
    import json

    from stream_moe.streams import benchmark_names, open_stream
    from stream_moe.streams.specs import is_generated
    from stream_moe.types import Schema

    if name in benchmark_names() or is_generated(name):
        return open_stream(name).schema
    try:
        return Schema.from_dict(json.loads(Path(name).read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"--schema {name}: {error.strerror}, and no benchmark of that name") from None
    except ValueError as error:
        raise ConfigError(f"--schema {name}: not JSON: {error}") from None
