"""`stream-moe run --source`: the daemon's loop over standard input or a folder's files, without a broker."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stream_moe.cli import settings as s
from stream_moe.cli.flags import shown
from stream_moe.cli.outputs import JsonFile, OutputList, check_writable
from stream_moe.cli.progress import make_display
from stream_moe.cli.start import forbid_core_dumps, log_settings, start_logs
from stream_moe.errors import ConfigError

if TYPE_CHECKING:
    from connectors.local.incoming import Incoming
    from stream_moe.cli.run import RunSettings
    from stream_moe.types import Schema

STDIN = "-"


def run_local(settings: RunSettings, make_learner: s.MakeLearner, schema: Schema | None) -> None:
    """Work off lines of JSON as they come; what was read and committed survives any death of the process."""
    started = time.perf_counter()
    model, output, kafka, source = settings.model, settings.output, settings.kafka, settings.local.source
    check_writable(output.json)
    _check(settings)
    quiet = output.quiet or kafka.predictions == STDIN  # stdout is the predictions' then
    forbid_core_dumps()
    start_logs(output.quiet, output.json_logs)
    from connectors.local import FileSink, LocalLog, LocalSource
    from connectors.local.log import KEPT
    from connectors.names import folder_name
    from connectors.objects import open_store
    from stream_moe.cli.serving import Serving, ended_if_stuck
    from stream_moe.engine import loop

    rule = settings.answers.rule()
    topic = "stdin" if source == STDIN else Path(source).resolve().name
    folder = folder_name(kafka.group, topic, 0)
    open_store(settings.state_dir, folder)  # which makes the directory, and looks who else may write there
    # What is in the log when it is opened is not all that is there: the source itself says where the end is.
    engine_settings, metrics = replace(settings.engine_settings(), until_caught_up=False), settings.metrics
    log = LocalLog(Path(settings.state_dir) / f"{folder}.sqlite", max(KEPT, 4 * engine_settings.checkpoint_events))
    out = settings.local.out or Path(settings.state_dir) / "out"
    title = f"{topic}   {model.name}, seed {model.seed}"
    outputs = OutputList([make_display(title, None, quiet, output.json_logs), JsonFile(output.json)])
    serving = Serving(metrics.host, metrics.port, outputs, metrics.access(), metrics.names)
    with closing(log), serving.server, ended_if_stuck(serving.health):
        make_engine = partial(
            loop.Engine,
            LocalSource(log, _incoming(settings), kafka.group, topic),
            FileSink(log, kafka.group, out, kafka.predictions, kafka.dead_letters, kafka.drifts),
            lambda partition: open_store(settings.state_dir, folder_name(kafka.group, topic, partition)),
            make_learner,
            engine_settings,
            schema=schema,
        )
        where = {"metrics": serving.server.url, "set": model.parameters, "out": str(out)}
        log_settings("run", shown(settings) | where)
        about = {"model": model.name, "stream": topic, "seed": model.seed, "answers": rule.text}
        serving.run(make_engine, about, started)


def _check(settings: RunSettings) -> None:
    """Raise ConfigError for what needs a broker or a registry."""
    from connectors.objects import is_url

    for flag, given in (("--labels", settings.kafka.labels), ("--registry", settings.registry.url)):
        if given is not None:
            raise ConfigError(f"{flag} needs Kafka; with --source each line holds event, label or both, in JSON")
    s.choice("--predictions-format", settings.predictions_format, ("json",))
    if is_url(settings.state_dir):
        raise ConfigError(f"--state-dir {settings.state_dir}: with --source a directory, as the log lies beside it")
    s.choice("--guarantee", settings.kafka.guarantee, ("exactly-once",))
    if settings.keys.settings() is not None:
        raise ConfigError(
            "--model-per key needs records with keys, which lines do not have; leave it out with --source"
        )


def _incoming(settings: RunSettings) -> Incoming:
    from connectors.local import FolderLines, InputLines

    source = settings.local.source
    return InputLines() if source == STDIN else FolderLines(Path(source), finite=settings.engine.until_caught_up)
