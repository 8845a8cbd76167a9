"""`stream-moe experiment`: a grid of replays from a TOML file."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer import Argument, Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError
from stream_moe.shown import printable

if TYPE_CHECKING:
    from stream_moe.experiments.plan import Experiment
    from stream_moe.experiments.runner import Outcome

INCOMPLETE = 1  # exit code: some runs failed


class ExperimentSettings(Settings):
    """Of `experiment`."""

    file: Annotated[
        str | None, Argument(metavar="FILE|NAME", help="A TOML file, or the name of one that is shipped.")
    ] = None
    jobs: Annotated[int | None, s.AT_LEAST_1, Option(help="Runs at a time; as many as cores unless given.")] = None
    executor: Annotated[
        str, Option(help="Where runs are made: local, or ray, the cluster of RAY_ADDRESS or of this machine.")
    ] = "local"
    out: Annotated[Path | None, Option(help="Directory of the results; experiments/NAME unless given.")] = None
    events: s.Events = None
    seeds: Annotated[str | None, Option(metavar="1,2", help="These seeds instead of the file's.")] = None
    streams: Annotated[str | None, Option(metavar="A,B", help="These streams instead of the file's.")] = None
    models: Annotated[str | None, Option(metavar="A,B", help="These models instead of the file's.")] = None
    tensorboard: Annotated[bool, Option(help="Write TensorBoard logs as well.")] = False
    names: Annotated[bool, Option("--list", help="List the experiments that are shipped, and leave.")] = False

    def load(self) -> Experiment:
        """Read the file, with what the command line replaces of it."""
        if self.executor not in {"local", "ray"}:
            raise ConfigError(f"--executor {self.executor!r}: choose local or ray")
        if self.file is None:
            raise ConfigError("which experiment? give a TOML file or a name of `stream-moe experiment --list`")
        from stream_moe.experiments import plan

        streams, models = (None if each is None else s.split_names(each) for each in (self.streams, self.models))
        try:
            seeds = None if self.seeds is None else [int(word) for word in s.split_names(self.seeds)]
        except ValueError:
            raise ConfigError(f"--seeds {self.seeds!r}: write whole numbers, as 1,2,3") from None
        found = plan.load(self.file, events=self.events, seeds=seeds, streams=streams, models=models)
        return found.model_copy(update={"tensorboard": self.tensorboard or found.tensorboard})


def experiment(settings: ExperimentSettings) -> None:
    """Make all runs of an experiment; those that are finished already are not made again."""
    if settings.names:
        from stream_moe.experiments import plan

        for name in plan.shipped():
            say(f"{name:<18}{plan.load(name, check=False).about}")
        return
    wanted = settings.load()
    if wanted.tensorboard:
        from stream_moe.experiments.tensorboard import check_installed

        check_installed()
    from stream_moe.experiments.runner import make_runs
    from stream_moe.experiments.store import RunStore

    cluster = None
    if settings.executor == "ray":
        from stream_moe.experiments.cluster import Cluster

        cluster = Cluster()
    folder = settings.out or Path("experiments") / wanted.name
    store, runs, begin = RunStore(folder), wanted.runs(), time.perf_counter()
    with store.lock():
        store.describe(wanted)
        there = sum(store.find(run) is not None for run in runs)
        cores = cluster.cores if cluster else os.cpu_count()
        jobs = min(settings.jobs or cores or 1, max(len(runs) - there, 1))
        say(f"{wanted.name}: {len(runs):,} runs, {there:,} of them there already; {jobs} at a time, in {folder}")
        with _progress(len(runs), there) as show:
            outcomes = make_runs(runs, store, jobs, show, cluster)
        if wanted.tensorboard:
            from stream_moe.experiments.tensorboard import write_logs

            write_logs(folder / "tensorboard", [found for run in runs if (found := store.find(run)) is not None])
    _sum_up(wanted, [outcomes[run] for run in runs], folder, time.perf_counter() - begin)


def _sum_up(wanted: Experiment, outcomes: list[Outcome], folder: Path, seconds: float) -> None:
    """Print the table of the results and where they are; exit code 1 where a run failed."""
    from stream_moe.experiments.table import summary

    if results := [outcome.result for outcome in outcomes if outcome.result is not None]:
        say("\n" + summary(results, wanted.published))
    say(f"\n{seconds:,.0f} s; {folder / 'results.csv'}, {folder / 'results.jsonl'}")
    if failed := [outcome for outcome in outcomes if outcome.result is None]:
        for reason, times in Counter(outcome.reason for outcome in failed).items():
            say(f"stream-moe: {times} run{'s' * (times > 1)} failed: {reason}", err=True)
        raise typer.Exit(INCOMPLETE)


@contextmanager
def _progress(total: int, there: int) -> Iterator[Callable[[Outcome], None]]:
    """Give a callback that shows an outcome: a bar with the time left on a terminal, else a line each."""
    if sys.stdout.isatty():
        from rich import progress as p

        words, left = p.TextColumn("{task.description}"), p.TextColumn("left")
        columns = (words, p.BarColumn(), p.MofNCompleteColumn(), p.TimeElapsedColumn(), left, p.TimeRemainingColumn())
        # A run lasts seconds to minutes: the speed is that of the last hour, not of the last half minute.
        with p.Progress(*columns, speed_estimate_period=3600) as bar:
            task = bar.add_task("runs", total=total, completed=there)

            def show(outcome: Outcome) -> None:
                bar.console.print(printable(_line(outcome)), highlight=False, markup=False)
                bar.advance(task)

            yield show
        return
    begin, done = time.monotonic(), there

    def tell(outcome: Outcome) -> None:
        nonlocal done
        done += 1
        left = (time.monotonic() - begin) / (done - there) * (total - done)
        time_left = f"  about {_span(left)} left" if done < total else ""
        say(f"{done}/{total}{time_left}  {_line(outcome)}")

    yield tell


def _line(outcome: Outcome) -> str:
    run, result = outcome.run, outcome.result
    name = " ".join(part for part in (run.stream, run.model, run.variant, f"seed {run.seed}") if part)
    if result is None:
        return f"{name}: failed"  # why is said at the end, once for all that failed for the same reason
    seconds = result["seconds"]
    return f"{name}: {result['accuracy']:.2%} in {f'{seconds:.1f}' if seconds >= 1 else f'{seconds:.2g}'} s"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
