"""`stream-moe demo`: the whole consumer loop on a log in memory, no broker."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings, shown
from stream_moe.cli.outputs import JsonFile, OutputList, check_writable
from stream_moe.cli.progress import make_display
from stream_moe.cli.start import log_settings, start_logs
from stream_moe.cli.terminal import say

if TYPE_CHECKING:
    from connectors.memory import MemoryLog
    from stream_moe.ports import Stream

SHOWN = (
    "stream_moe_accuracy_ratio", "stream_moe_kappa_ratio", "stream_moe_router_load_entropy_ratio",
    "stream_moe_router_class_information_ratio", "stream_moe_expert_overlap_ratio",
    "stream_moe_drift_detections_total",
)  # fmt: skip


class DemoModel(s.CpuModel):
    """The model of the demo."""

    flags: ClassVar = ("name", "seed")


class DemoSettings(Settings):
    """Of `demo`."""

    model: DemoModel = DemoModel()
    rate: Annotated[s.Rate, s.AT_LEAST_1] = None
    metrics_port: Annotated[int | None, s.PORTS, Option(help="Port of /metrics.")] = None
    hold: Annotated[bool, Option(help="Keep serving metrics at the end, until Ctrl-C.")] = False
    output: s.Output = s.Output()


def demo(settings: DemoSettings) -> None:
    """Electricity prices through the whole loop: log, codec, experts, router, predictions, metrics."""
    started = time.perf_counter()
    model, output = settings.model, settings.output
    check_writable(output.json)
    start_logs(output.quiet, output.json_logs)
    from connectors.files import FileCheckpointStore
    from connectors.memory import PAUSE, MemoryLog, MemorySink, MemorySource
    from stream_moe.cli.serving import Serving
    from stream_moe.engine import loop
    from stream_moe.streams import open_stream

    make_learner, stream, log = model.factory(), open_stream("electricity"), MemoryLog()
    title = f"{stream.name}   {model.name}, seed {model.seed}"
    display = make_display(title, stream.n_events, output.quiet, output.json_logs)
    serving = Serving("127.0.0.1", settings.metrics_port, OutputList([display, JsonFile(output.json)]))
    url = serving.server.url
    with serving.server, tempfile.TemporaryDirectory() as state:
        if output.speaks:
            say(f"electricity -> log in memory -> {model.name} -> predictions")
            say(f"live page at {url} , metrics at {url}metrics\n")
        log_settings(
            "demo", {"stream": stream.name} | shown(settings) | {"metrics": url, "device": "cpu", "threads": 1}
        )
        make_engine = partial(
            loop.Engine,
            MemorySource(log, "events", "demo"),
            MemorySink(log, "events", "demo"),
            lambda partition: FileCheckpointStore(Path(state) / str(partition)),
            make_learner,
            loop.EngineSettings(model.name, block_rows=1024),
            schema=stream.schema,
        )
        log.append("events", PAUSE)  # the topic exists before its first event
        threading.Thread(target=_produce, args=(stream, log, settings.rate), name="producer", daemon=True).start()
        interrupted = threading.Event()
        content = {"model": model.name, "stream": stream.name, "seed": model.seed}
        serving.run(make_engine, content, started, on_signal=interrupted.set)
        if output.speaks:
            _show_outputs(log.records("predictions")[-1].value, url)
        if settings.hold and not interrupted.is_set():
            if output.speaks:
                say(f"\nstill serving {url} ; Ctrl-C ends it")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()


def _produce(stream: Stream, log: MemoryLog, rate: float | None) -> None:
    """Append the stream's events to the log, so many a second."""
    from connectors.memory import EOF, Record
    from stream_moe.engine.codec import JsonCodec, schema_header

    codec, headers = JsonCodec(stream.schema), (schema_header(stream.schema),)
    sent, begin = 0, time.monotonic()
    for block in stream.blocks(1000 if rate is None else max(1, min(1000, int(rate / 10)))):
        now = int(time.time() * 1000)
        for value in codec.encode_events(block, sent):
            log.append("events", Record(value, str(sent).encode(), now, headers if sent == 0 else ()))
            sent += 1
        if rate is not None:
            time.sleep(max(0.0, begin + sent / rate - time.monotonic()))
    log.append("events", EOF)


def _show_outputs(prediction: bytes | None, url: str) -> None:
    """Print what came out at both ends: the last prediction, and a scrape of our own metrics."""
    import urllib.request

    say(f"\n  the last prediction\n    {(prediction or b'').decode()[:150]}...")
    say(f"\n  from {url}metrics")
    with urllib.request.urlopen(f"{url}metrics", timeout=5) as answer:  # noqa: S310 - our own server
        for line in answer.read().decode().splitlines():
            if line.startswith(SHOWN):
                say(f"    {line}")
