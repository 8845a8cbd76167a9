"""`stream-moe replay`: score a model prequentially on a stream."""

from __future__ import annotations

import logging
import time
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from annotated_types import Interval
from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings, shown
from stream_moe.cli.numbers import check_number, number_rows
from stream_moe.cli.outputs import (
    CSV_EVERY,
    CsvFile,
    DriftLog,
    Ended,
    JsonFile,
    Output,
    OutputList,
    ReportPage,
    Standing,
    check_writable,
)
from stream_moe.cli.progress import make_display
from stream_moe.cli.start import log_settings, start_logs
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError
from stream_moe.models.keyed.settings import MAX_KEYS

if TYPE_CHECKING:
    from stream_moe.engine.replay import Progress
    from stream_moe.ports import Stream

SPARSE = (
    "sparse rows: linear experts and naive Bayes take all names, trees, neighbours and history those that tell the "
    "classes apart best (--set columns=64)"
)
_log = logging.getLogger(__name__)


class Keys(Settings):
    """Whether each value of a feature has a model."""

    per: s.ModelPer = "partition"
    key: Annotated[
        str | None, Option(metavar="COLUMN", help="With --model-per key: the feature that is the key.")
    ] = None
    max_keys: s.MaxKeys = MAX_KEYS

    def factory(self, make: s.MakeLearner) -> s.MakeLearner:
        """Return what builds a model for each value of the feature, or `make` where there is none."""
        if (key := self.key) is None:
            return make
        from stream_moe.models.keyed.learner import KeyedLearner

        return lambda schema: KeyedLearner(schema, make=make, max_keys=self.max_keys, key_feature=key)


class ReplayOutput(s.Output):
    """What is shown and written of a replay."""

    csv: Annotated[Path | None, Option(help=f"Write a row of scores every {CSV_EVERY:,} events.")] = None
    drift_log: Annotated[Path | None, Option(help="Write each drift as a line of JSON.")] = None
    report: Annotated[Path | None, Option(help="Write a self-contained HTML page.")] = None
    serve: Annotated[bool, Option(help="Serve the live page and /metrics on 127.0.0.1.")] = False
    serve_port: Annotated[int | None, s.PORTS, Option(help=f"Port of the page, 0 = any.  {s.ANY_PORT}")] = None
    hold: Annotated[bool, Option("--hold/--no-hold", help="With --serve: stay at the end, until Ctrl-C.")] = True

    def check(self) -> None:
        """Fail before the work where a result could not be written, or nothing is served at the port."""
        check_writable(self.json, self.csv, self.report, self.drift_log)
        if self.serve_port is not None and not self.serve:
            raise ConfigError(f"--serve-port {self.serve_port}: nothing is served; add --serve, or leave it out")

    def open(self, title: str, source: Stream, events: int | None, answers: str) -> OutputList:
        """Return the outputs of a replay, the page last, as it may be held."""
        outputs: list[Output] = [self._display(title, source, events), JsonFile(self.json)]
        writers = {CsvFile: self.csv, DriftLog: self.drift_log, ReportPage: self.report}
        outputs += [writer(path) for writer, path in writers.items() if path is not None]
        if self.serve:
            from stream_moe.cli.replay_page import ReplayPage

            outputs.append(ReplayPage(source, events, self.serve_port, self.hold, self.speaks, answers))
        return OutputList(outputs)

    def _display(self, title: str, source: Stream, events: int | None) -> Output:
        if source.schema.target is None or self.quiet:
            return make_display(title, events, self.quiet, self.json_logs)
        return number_rows(json_logs=self.json_logs)


class ReplaySettings(Settings):
    """Of `replay`; a process of a fold gets them as well."""

    first: ClassVar = ("stream", "model", "events", "seed")

    chunk: Annotated[int, s.AT_LEAST_1, Option(help="Rows per block; changes no result.")] = 4096
    label_delay: Annotated[
        str,
        Option(
            metavar="N|COLUMN",
            help="A label arrives so many events after its event; or the column of a file that says how many.",
        ),
    ] = "0"
    window: Annotated[int, s.AT_LEAST_1, Option(help="Events that the windowed scores look back.")] = 1000
    metric: Annotated[
        list[str], Option(metavar="A,B", help="Metrics of river, as MacroF1 or 'FBeta(beta=2)'; may be repeated.")
    ] = field(default_factory=list)
    folds: Annotated[int | None, Interval(ge=2), Option(help="Cross-validate: fold j tests, the others train.")] = (
        None
    )
    workers: Annotated[int, Interval(ge=1, le=256), Option(help="Processes over the folds; changes no result.")] = 1
    source: s.Source
    model: s.Model = s.Model()
    answers: s.Answers = s.Answers()
    keys: Keys = Keys()
    output: ReplayOutput = ReplayOutput()

    @property
    def delay(self) -> int | str:
        """After how many more events each label arrives, or the column that says so."""
        text = self.label_delay
        if not text.removeprefix("-").isdecimal():
            return text
        if (events := int(text)) < 0:
            raise ConfigError(f"--label-delay {text}: give 0 or more events, or the name of a column")
        return events

    @property
    def cut(self) -> dict[str, Any]:
        """How much is replayed, in which blocks, how late labels come, and over which window scores look."""
        late = self.delay if isinstance(self.delay, int) else 0  # else the stream says it
        return {"events": self.source.events, "chunk": self.chunk, "label_delay": late, "window": self.window}

    def open(self) -> Stream:
        """Open the stream."""
        delay = self.delay
        return self.source.open(self.model.seed, None if isinstance(delay, int) else delay, numbers=True)

    @property
    def metrics(self) -> list[str]:
        """Names of river's metrics, with their options."""
        from stream_moe.evaluation.river_metrics import split_metrics

        return [name for each in self.metric for name in split_metrics(each)]

    def check(self) -> None:
        """Raise ConfigError where options do not go together."""
        self.output.check()
        keyed = s.choice("--model-per", self.keys.per, s.MODEL_PER) == "key"
        if self.folds is None and self.workers > 1:
            raise ConfigError(f"--workers {self.workers}: processes are for folds; add --folds, or use --threads")
        if keyed != (self.keys.key is not None):
            raise ConfigError("--model-per key and --key COLUMN go together: a file has no record keys; give both")
        if self.folds is None:
            return
        if keyed:
            raise ConfigError("--folds: cross-validation is of one model; leave --model-per key out, or --folds")
        out = self.output
        if any((out.csv, out.report, out.drift_log, out.serve, self.metrics)):
            one = "--csv, --report, --drift-log, --serve and --metric"
            raise ConfigError(f"--folds: {one} are of one learner; leave them out, or --folds")


def replay(settings: ReplaySettings) -> None:
    """Replay a stream: test each event, then train on it."""
    started = time.perf_counter()
    settings.check()
    model, output = settings.model, settings.output
    if settings.folds is not None:
        from stream_moe.cli.folds import cross_validate

        cross_validate(settings, settings.folds)
        return
    start_logs(output.quiet, output.json_logs)
    make_learner, rule = settings.keys.factory(model.factory()), settings.answers.rule()
    from stream_moe.engine import replay as prequential
    from stream_moe.runtime.slow import said_if_slow

    with said_if_slow(f"reading {settings.source.stream}"):
        source = settings.open()
    check_number(settings, source.schema)
    _say_what_was_read(settings, source)
    name, target = model.for_schema(source.schema), source.schema.target
    wanted = min((n for n in (settings.source.events, source.n_events) if n is not None), default=None)
    outputs = output.open(f"{source.name}   {name}, seed {model.seed}", source, wanted, rule.text)

    def progress(at: Progress) -> None:
        outputs.progress(Standing(at.events, at.seconds, at.quality, at.learner, None, at.drift, at.scores))

    before = time.perf_counter() - started
    with outputs:
        result = prequential.replay(
            source,
            make_learner,
            **settings.cut,
            metrics=settings.metrics,
            answers=rule,
            on_start=lambda: _log_start(settings, wanted),
            on_progress=progress,
            progress_at=outputs.marks(),
        )
        result.startup_seconds += before
        about = {"model": name, "stream": source.name, "seed": model.seed, "label_delay": settings.delay}
        about |= {"window": settings.window, "classes": list(source.schema.classes)}
        about |= {"bayes_accuracy": source.bayes_accuracy, "answers": rule.text}
        if target is not None:
            about |= {"target": target.name, "unit": target.unit}
        outputs.end(Ended(about | result.to_dict(), result))


def _say_what_was_read(settings: ReplaySettings, source: Stream) -> None:
    from stream_moe.streams.described import in_short
    from stream_moe.streams.files import FileStream

    if isinstance(source, FileStream) and not (settings.output.quiet or settings.output.json_logs):
        say(in_short(source))
        if source.schema.sparse:
            say(SPARSE)


def _log_start(settings: ReplaySettings, events: int | None) -> None:
    from stream_moe.models.catalogue import warning

    model = settings.model
    if about := warning(model.name, model.parameters, events):
        _log.warning(about)
    found = {"events": events, "set": model.parameters, "label_delay": settings.delay, "metric": settings.metrics}
    log_settings("replay", shown(settings) | found | {"device": model.find_device()})
