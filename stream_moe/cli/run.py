"""`stream-moe run`: the daemon on Kafka."""

from __future__ import annotations

import logging
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from stream_moe.cli import options as o
from stream_moe.cli.console import make_display, tell_result
from stream_moe.cli.serving import Serving, ended_if_stuck, stop_on_signals
from stream_moe.cli.start import log_settings, start_logs
from stream_moe.errors import ConfigError
from stream_moe.models.keyed.settings import MAX_KEYS, MEMORY_BYTES, KeySettings, NullKey

if TYPE_CHECKING:
    from connectors.kafka import KafkaSettings
    from stream_moe.ports import Source
    from stream_moe.report import GroupReport, PartitionReport
    from stream_moe.types import Schema


def run(
    state_dir: Annotated[
        str, typer.Option(help="Directory of the checkpoints, or URL of an object store (s3://bucket/states).")
    ],
    bootstrap: o.Bootstrap = None,
    topic: Annotated[str | None, typer.Option(help="Input topic.  [default: events]")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Topic of the labels, if not the input topic; with as many partitions.")
    ] = None,
    journal: Annotated[
        str | None,
        typer.Option(help="With --labels: topic for the order of the two.  [default: GROUP-TOPIC-journal]"),
    ] = None,
    predictions: Annotated[str | None, typer.Option(help="Output topic.  [default: predictions]")] = None,
    dead_letters: Annotated[
        str | None, typer.Option(help="Topic for what cannot be read.  [default: dead-letters]")
    ] = None,
    drifts: Annotated[str | None, typer.Option(help="Topic for drifts found, in the same transactions.")] = None,
    group: Annotated[str | None, typer.Option(help="Consumer group.  [default: stream-moe]")] = None,
    guarantee: Annotated[str | None, typer.Option(help="Or at-least-once.  [default: exactly-once]")] = None,
    schema: Annotated[
        str | None, typer.Option(help="Schema: JSON file, or name of a benchmark; else the producer's, from the log.")
    ] = None,
    model: o.Model = o.DEFAULT_MODEL,
    seed: o.Seed = 1,
    settings: o.Settings = [],  # noqa: B006 (typer copies it)
    threads: o.Threads = 1,
    device: o.Device = "auto",
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of /metrics, 0 = any.  [default: 9108, any if taken]")
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to serve metrics on.")] = "127.0.0.1",
    metrics_cert: Annotated[Path | None, typer.Option(help="Serve metrics over TLS: certificate (PEM).")] = None,
    metrics_key: Annotated[Path | None, typer.Option(help="Its key (PEM), unless in the same file.")] = None,
    metrics_auth_file: Annotated[
        Path | None, typer.Option(help="Who may read the metrics, a line USER:HASH each.")
    ] = None,
    until_caught_up: Annotated[
        bool,
        typer.Option(
            "--until-caught-up",
            help="Leave at the end that each partition had when it was assigned.",
        ),
    ] = False,
    checkpoint_events: Annotated[int, typer.Option(min=1, help="Checkpoint after so many records.")] = 100_000,
    checkpoint_seconds: Annotated[float, typer.Option(min=0.1, help="... or after so many seconds.")] = 60.0,
    block_rows: Annotated[int, typer.Option(min=1, help="At most so many records per block.")] = 4096,
    max_waiting: Annotated[
        int, typer.Option(min=1, help="At most so many events wait for a label, and labels for an event.")
    ] = 100_000,
    label_seconds: Annotated[
        float, typer.Option(min=0.001, help="... and no longer than this, by the records' timestamps.")
    ] = 86_400.0,
    model_per: o.ModelPer = "partition",
    null_key: Annotated[
        str, typer.Option(help="Records without a key: shared (one model for all of them) or dead-letter.")
    ] = "shared",
    max_keys: o.MaxKeys = MAX_KEYS,
    key_memory: Annotated[
        int,
        typer.Option(min=1, metavar="MB", help="What models in memory may take together; more go to disk."),
    ] = MEMORY_BYTES >> 20,
    config: o.Config = None,
    json: o.JsonFile = None,
    json_logs: o.JsonLogs = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but logs and errors.")] = False,
) -> None:
    """Consume events from Kafka, predict, learn, and write predictions; resumes where it stopped.

    One model for each partition of the input topic, or for each record key. Processes with the same group share the
    partitions, on as many machines as you like; --state-dir is then a directory that all see, or an object store.
    """
    started = time.perf_counter()
    o.check_writable(json)
    if ":" in model:
        raise ConfigError(f"--model {model}: the state of another library's model cannot be kept; replay takes it")
    from connectors.kafka import KafkaReader, KafkaSettings, KafkaSink, KafkaSource
    from connectors.objects import open_store
    from stream_moe.cli.config import kafka_values
    from stream_moe.engine.journal import JournaledSource
    from stream_moe.engine.loop import Engine, EngineSettings
    from stream_moe.telemetry.access import load_access

    flags = {
        "bootstrap": bootstrap, "topic": topic, "predictions": predictions, "dead_letters": dead_letters,
        "group": group, "guarantee": guarantee, "labels": labels, "journal": journal, "drifts": drifts,
    }  # fmt: skip
    kafka = KafkaSettings(**kafka_values(flags, config))
    start_logs(quiet, json_logs, kafka.secrets())
    make_learner = o.learner_factory(model, seed, settings, threads, device)
    keys = KeySettings(
        o.choice("--null-key", null_key, get_args(NullKey)), max_keys=max_keys, memory_bytes=key_memory << 20
    )
    per_key = o.choice("--model-per", model_per, o.MODEL_PER) == "key"
    events = KafkaSource(kafka)
    source: Source = events
    if kafka.labels is not None and kafka.journal_topic is not None:
        source = JournaledSource(events, KafkaReader(kafka, kafka.labels), KafkaReader(kafka, kafka.journal_topic))
    client_log = logging.getLogger("kafka")
    client_log.setLevel(logging.CRITICAL)  # a broker that is not there is one line of ours, not fifty of the client's

    def on_report(report: PartitionReport) -> None:
        client_log.setLevel(logging.WARNING)
        serving.on_report(report)

    def on_group(report: GroupReport) -> None:
        serving.on_group(replace(report, watchdog_fired=events.watchdog.fired))

    display = make_display(f"{kafka.topic}   {model}, seed {seed}", None, quiet, json_logs)
    serving = Serving(metrics_host, metrics_port, display, load_access(metrics_cert, metrics_key, metrics_auth_file))
    with serving.server, ended_if_stuck(serving.health):
        engine = Engine(
            source,
            KafkaSink(kafka, events),
            lambda partition: open_store(state_dir, f"{kafka.group}-{kafka.topic}-{partition}"),
            make_learner,
            EngineSettings(
                model,
                block_rows,
                checkpoint_events,
                checkpoint_seconds,
                until_caught_up,
                max_waiting=max_waiting,
                label_seconds=label_seconds,
                keys=keys if per_key else None,
            ),
            schema=load_schema(schema) if schema else None,
            on_report=on_report,
            on_group=on_group,
            on_turn=serving.health.beat,
        )
        shown = {"state_dir": state_dir, "metrics": serving.server.url, "model": model, "seed": seed}
        shown |= {"set": o.parse_settings(settings), "threads": threads, "device": o.find_device(model, device)}
        shown |= {"schema": schema, "checkpoint_events": checkpoint_events, "checkpoint_seconds": checkpoint_seconds}
        shown |= {"block_rows": block_rows, "max_waiting": max_waiting, "label_seconds": label_seconds}
        log_settings("run", _kafka_settings(kafka) | shown)
        with display, stop_on_signals(engine.stop):
            engine.run()
        content = {"model": model, "stream": kafka.topic, "seed": seed, **serving.result(engine, started)}
    tell_result(content, quiet, json_logs)
    o.write_json(json, content)


def _kafka_settings(kafka: KafkaSettings) -> dict[str, Any]:
    """Return what matters with this security protocol."""
    settings = {field.name: getattr(kafka, field.name) for field in fields(kafka)}
    idle = ("sasl_", "allow_") if "SASL" not in kafka.security_protocol else ()
    return {name: value for name, value in settings.items() if not (idle and name.startswith(idle))}


def load_schema(name: str) -> Schema:
    """Read a schema from a JSON file, or take a benchmark's."""
    import json

    from stream_moe.errors import ConfigError
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
