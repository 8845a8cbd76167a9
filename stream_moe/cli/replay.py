"""`stream-moe replay`: score a model prequentially on a stream."""

from __future__ import annotations

import itertools
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stream_moe.cli import options as o
from stream_moe.cli.console import Standing, make_display, tell_result
from stream_moe.cli.folds import FoldReplay, cross_validate
from stream_moe.cli.start import log_settings, start_logs
from stream_moe.errors import ConfigError
from stream_moe.models.keyed.settings import MAX_KEYS

if TYPE_CHECKING:
    from stream_moe.engine.replay import Progress
    from stream_moe.report import LearnerReport

CSV_EVERY = 5000
_log = logging.getLogger(__name__)


def replay(
    stream: o.Stream,
    model: o.Model = o.DEFAULT_MODEL,
    events: o.Events = None,
    seed: o.Seed = 1,
    chunk: Annotated[int, typer.Option(min=1, help="Rows per block; changes no result.")] = 4096,
    label_delay: Annotated[int, typer.Option(min=0, help="A label arrives so many events after its event.")] = 0,
    window: Annotated[int, typer.Option(min=1, help="Events that the windowed scores look back.")] = 1000,
    metric: Annotated[
        list[str], typer.Option(metavar="A,B", help="Metrics of river by name, as MacroF1; may be repeated.")
    ] = [],  # noqa: B006 (typer copies it)
    folds: Annotated[int | None, typer.Option(min=2, help="Cross-validate: fold j tests, the others train.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes over the folds; changes no result.")] = 1,
    label: o.Label = None,
    nominal: o.Nominal = "",
    settings: o.Settings = [],  # noqa: B006 (typer copies it)
    threads: o.Threads = 1,
    device: o.Device = "auto",
    model_per: o.ModelPer = "partition",
    key: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --model-per key: the feature that is the key.")
    ] = None,
    max_keys: o.MaxKeys = MAX_KEYS,
    json: o.JsonFile = None,
    csv: Annotated[Path | None, typer.Option(help=f"Write a row of scores every {CSV_EVERY:,} events.")] = None,
    drift_log: Annotated[Path | None, typer.Option(help="Write each drift as a line of JSON.")] = None,
    report: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Serve the live page and /metrics on 127.0.0.1.")] = False,
    serve_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port of the page, 0 = any.  [default: 9108, any if taken]")
    ] = None,
    hold: Annotated[
        bool, typer.Option("--hold/--no-hold", help="With --serve: stay at the end, until Ctrl-C.")
    ] = True,
    json_logs: o.JsonLogs = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Replay a stream: test each event, then train on it."""
    started = time.perf_counter()
    o.check_writable(json, csv, report, drift_log)
    names = [name for each in metric for name in o.split_names(each)]
    if folds is None and workers > 1:
        raise ConfigError(f"--workers {workers}: processes are for folds; add --folds, or use --threads")
    if serve_port is not None and not serve:
        raise ConfigError(f"--serve-port {serve_port}: nothing is served; add --serve, or leave it out")
    if (o.choice("--model-per", model_per, o.MODEL_PER) == "key") != (key is not None):
        raise ConfigError("--model-per key and --key COLUMN go together: a file has no record keys; give both")
    if folds is not None:
        if key is not None:
            raise ConfigError("--folds: cross-validation is of one model; leave --model-per key out, or --folds")
        if csv is not None or report is not None or drift_log is not None or serve or names:
            one = "--csv, --report, --drift-log, --serve and --metric"
            raise ConfigError(f"--folds: {one} are of one learner; leave them out, or --folds")
        replay_fold = FoldReplay(
            stream, model, events, seed, chunk, label_delay, label, nominal, tuple(settings), threads, device, window
        )
        cross_validate(replay_fold, folds, workers, json, quiet)
        return
    start_logs(quiet, json_logs)
    make_learner = o.learner_factory(model, seed, settings, threads, device)
    if key is not None:
        make_learner = o.per_key(make_learner, key, max_keys)
    from stream_moe.engine import replay as prequential
    from stream_moe.models.catalogue import warning
    from stream_moe.streams import open_stream

    source = open_stream(stream, seed=seed, label=label, nominal=o.split_names(nominal))
    wanted = min((n for n in (events, source.n_events) if n is not None), default=None)
    display = make_display(f"{source.name}   {model}, seed {seed}", wanted, quiet, json_logs)
    rows = list[dict[str, float]]()
    page = None
    if serve:
        from stream_moe.cli.replay_page import ReplayPage

        page = ReplayPage(source, events, serve_port)
        if json_logs:
            _log.info("live page at %s", page.url)
        elif not quiet:
            typer.echo(f"live page at {page.url}")

    def row(events: int, seconds: float, scores: dict[str, float], learner: LearnerReport) -> None:
        rows.append({"events": events, "seconds": seconds, **scores, "drifts": learner.mixture_drifts})

    def start() -> None:
        shown: dict[str, Any] = {
            "stream": stream,
            "events": wanted,
            "model": model,
            "seed": seed,
            "set": o.parse_settings(settings),
        }
        shown |= {"label_delay": label_delay, "window": window, "label": label, "nominal": nominal, "metric": names}
        if said := warning(model, o.parse_settings(settings), wanted):
            _log.warning(said)
        log_settings("replay", shown | {"chunk": chunk, "threads": threads, "device": o.find_device(model, device)})

    def progress(at: Progress) -> None:
        display.update(Standing(at.events, at.seconds, at.quality, at.learner))
        if page is not None:
            page.show(at.events, at.quality, at.learner, at.drift)
        if csv is not None and at.events % CSV_EVERY == 0:
            row(at.events, at.seconds, at.scores.summary(), at.learner)

    with display:
        result = prequential.replay(
            source,
            make_learner,
            events=events,
            chunk=chunk,
            label_delay=label_delay,
            window=window,
            metrics=names,
            on_start=start,
            on_progress=progress,
            progress_at=prequential.merged(
                display.marks(),
                itertools.count(CSV_EVERY, CSV_EVERY) if csv is not None else iter(()),
                page.marks() if page is not None else iter(()),
            ),
            started=started,
        )
        display.update(Standing(result.events, result.seconds, result.quality, result.learner), final=True)
    content = {"model": model, "stream": source.name, "seed": seed, "label_delay": label_delay, "window": window}
    content |= {"classes": list(source.schema.classes), "bayes_accuracy": source.bayes_accuracy, **result.to_dict()}
    tell_result(content, quiet, json_logs)
    o.write_json(json, content)
    if csv is not None:
        if not rows or rows[-1]["events"] < result.events:  # the last row is the end
            row(result.events, result.seconds, result.summary, result.learner)
        o.write_text(
            csv, "\n".join([",".join(rows[0]), *(",".join(f"{v:.10g}" for v in row.values()) for row in rows)]) + "\n"
        )
    if drift_log is not None:
        o.write_text(drift_log, "".join(f"{drift.to_json().decode()}\n" for drift in result.drift_log))
    if report is not None:
        from stream_moe.plots.page import render_page

        o.write_text(report, render_page([content]))
    if page is not None:
        page.show(result.events, result.quality, result.learner, result.drift, is_last=True)
        if hold:
            if not (quiet or json_logs):
                typer.echo(f"\nthe live page stays at {page.url} ; Ctrl-C ends it")
            page.hold()
