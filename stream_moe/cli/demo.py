"""`stream-moe demo`: the whole consumer loop on a log in memory, no broker."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Annotated

import typer

from stream_moe.cli import options as o
from stream_moe.cli.console import make_display, tell_result
from stream_moe.cli.serving import Serving, stop_on_signals
from stream_moe.cli.start import log_settings, start_logs

SHOWN = (
    "stream_moe_accuracy_ratio", "stream_moe_kappa_ratio", "stream_moe_router_load_entropy_ratio",
    "stream_moe_router_class_information_ratio", "stream_moe_expert_overlap_ratio",
    "stream_moe_drift_detections_total",
)  # fmt: skip


def demo(
    model: o.Model = o.DEFAULT_MODEL,
    seed: o.Seed = 1,
    rate: Annotated[float | None, typer.Option(min=1, help="Events per second; unlimited unless given.")] = None,
    metrics_port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port of /metrics.")] = None,
    hold: Annotated[bool, typer.Option("--hold", help="Keep serving metrics at the end, until Ctrl-C.")] = False,
    json: o.JsonFile = None,
    json_logs: o.JsonLogs = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Electricity prices through the whole loop: log, codec, experts, router, predictions, metrics."""
    started = time.perf_counter()
    o.check_writable(json)
    from connectors.files import FileCheckpointStore
    from connectors.memory import EOF, PAUSE, MemoryLog, MemorySink, MemorySource, Record
    from stream_moe.engine.codec import JsonCodec, schema_header
    from stream_moe.engine.loop import Engine, EngineSettings
    from stream_moe.streams import open_stream

    make_learner = o.learner_factory(model, seed, [], 1, "cpu")
    stream, log = open_stream("electricity"), MemoryLog()
    codec, headers = JsonCodec(stream.schema), (schema_header(stream.schema),)

    def produce() -> None:
        sent, begin = 0, time.monotonic()
        for block in stream.blocks(1000 if rate is None else max(1, min(1000, int(rate / 10)))):
            now = int(time.time() * 1000)
            for value in codec.encode_events(block, sent):
                log.append("events", Record(value, str(sent).encode(), now, headers if sent == 0 else ()))
                sent += 1
            if rate is not None:
                time.sleep(max(0.0, begin + sent / rate - time.monotonic()))
        log.append("events", EOF)

    start_logs(quiet, json_logs)
    told = not (quiet or json_logs)
    display = make_display(f"{stream.name}   {model}, seed {seed}", stream.n_events, quiet, json_logs)
    serving = Serving("127.0.0.1", metrics_port, display)
    with serving.server, tempfile.TemporaryDirectory() as state:
        if told:
            typer.echo(f"electricity -> log in memory -> {model} -> predictions")
            typer.echo(f"live page at {serving.server.url} , metrics at {serving.server.url}metrics\n")
        shown = {"stream": stream.name, "model": model, "seed": seed, "rate": rate, "metrics": serving.server.url}
        log_settings("demo", shown | {"device": "cpu", "threads": 1})
        engine = Engine(
            MemorySource(log, "events", "demo"),
            MemorySink(log, "events", "demo"),
            lambda partition: FileCheckpointStore(Path(state) / str(partition)),
            make_learner,
            EngineSettings(model, block_rows=1024),
            schema=stream.schema,
            on_report=serving.on_report,
            on_group=serving.on_group,
            on_turn=serving.health.beat,
        )
        producer = threading.Thread(target=produce, name="producer", daemon=True)
        log.append("events", PAUSE)  # the topic exists before its first event
        producer.start()
        ended = threading.Event()

        def end() -> None:
            ended.set()
            engine.stop()

        with display, stop_on_signals(end):
            engine.run()
        content = {"model": model, "stream": stream.name, "seed": seed, **serving.result(engine, started)}
        tell_result(content, quiet, json_logs)
        if told:
            _show_outputs(log.records("predictions")[-1].value, serving.server.url)
        o.write_json(json, content)
        if hold and not ended.is_set():
            if told:
                typer.echo(f"\nstill serving {serving.server.url} ; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def _show_outputs(prediction: bytes | None, url: str) -> None:
    """Print what came out at both ends: the last prediction, and a scrape of our own metrics."""
    typer.echo(f"\n  the last prediction\n    {(prediction or b'').decode()[:150]}...")
    typer.echo(f"\n  from {url}metrics")
    with urllib.request.urlopen(f"{url}metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(SHOWN):
                typer.echo(f"    {line}")
