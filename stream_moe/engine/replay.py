"""Replay a stream through a learner: test each event, then train on it, at once or when its label comes."""

from __future__ import annotations

import heapq
import math
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import numpy as np

from stream_moe.answers import MOST_PROBABLE, AnswerRule
from stream_moe.drift.watch import DriftWatch
from stream_moe.engine.delays import LONGEST, DelayedLabels
from stream_moe.engine.step import step
from stream_moe.engine.warm import compile_beside, compile_scores
from stream_moe.errors import ConfigError, DataError
from stream_moe.evaluation.cross_validation import Fold
from stream_moe.evaluation.numbers import NumberScores, NumberTimeline
from stream_moe.evaluation.scoreboard import Scoreboard, quality_dict
from stream_moe.evaluation.timeline import Timeline
from stream_moe.evaluation.window import WINDOW
from stream_moe.experts.wide import MOST_FEATURES
from stream_moe.models.contract import BlockClassifier
from stream_moe.ports import Stream
from stream_moe.report import Drift, DriftReport, LearnerReport, QualityReport, drifts_by_scope
from stream_moe.runtime.slow import said_if_slow
from stream_moe.sparse_rows import SparseRows
from stream_moe.types import UNLABELLED, Block, Schema

MOST_LOGGED = 100  # drifts in the JSON, the first ones; all are in the log file
WARM_UP_ROWS = 1024  # enough for the router to step and a tree to try a split: everything is compiled after it
WARM_UP_WIDTH = 64  # numeric features, nominal ones and classes, at most, of the learner that does it


@dataclass(slots=True)
class Progress:
    """Where a replay stands."""

    events: int
    seconds: float
    quality: QualityReport  # or of a number `stream_moe.evaluation.numbers.NumberQuality`, as the others below
    learner: LearnerReport
    scores: Scoreboard  # the replay's own, which moves on when the callback returns
    drift: DriftReport


@dataclass(slots=True)
class ReplayResult:
    """What a replay found. `seconds` and `cpu_seconds` (all threads) are the steady state.

    Start-up and compilation are `startup_seconds`. `state_digest` is a sha256 over the whole state; of another
    library's model, whose state cannot be read, over its settings, the events learnt and what it said to each.
    """

    events: int
    seconds: float
    cpu_seconds: float
    startup_seconds: float
    state_digest: str
    quality: QualityReport
    learner: LearnerReport
    phases: dict[str, float]  # seconds by phase, of the learner's or the engine's blocks
    scores: dict[str, Any] = field(default_factory=dict)  # of `Scoreboard.to_dict`; an engine keeps `quality` alone
    timeline: dict[str, Any] | None = None  # of `Timeline.to_dict`
    drift_log: list[Drift] = field(default_factory=list)  # by event; a daemon writes it as it goes
    drift: DriftReport = field(default_factory=DriftReport)

    @property
    def drifts_by_scope(self) -> dict[str, int]:
        """How many drifts there were of each scope."""
        return drifts_by_scope(self.learner, self.drift)

    @property
    def summary(self) -> dict[str, float]:
        """Return the scores of one number each, as `Scoreboard.summary` does."""
        return {
            name: math.nan if value is None else value
            for name, value in self.scores.items()
            if value is None or isinstance(value, int | float)
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        learner = asdict(self.learner)
        experts = learner.pop("experts")
        if "expert_class" in learner:
            learner["expert_class"] = self.learner.expert_class.tolist()
        return {
            "events": self.events,
            **(self.scores or quality_dict(self.quality)),
            "events_per_second": self.events / self.seconds if self.seconds else 0.0,
            "seconds": self.seconds,
            "cpu_seconds": self.cpu_seconds,
            "events_per_cpu_second": self.events / self.cpu_seconds if self.cpu_seconds else 0.0,
            "startup_seconds": self.startup_seconds,
            "phases": self.phases,
            "peak_memory_bytes": peak,
            "state_digest": self.state_digest,
            "drifts": self.learner.mixture_drifts,
            "drifts_by_scope": self.drifts_by_scope,
            "drift_log": [asdict(drift) for drift in self.drift_log[:MOST_LOGGED]],
            "experts": experts,
            "specialization": {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in learner.items()},
            **({} if self.timeline is None else {"timeline": self.timeline}),
        }


def replay(
    stream: Stream,
    make_learner: Callable[[Schema], BlockClassifier],
    *,
    events: int | None = None,
    chunk: int = 4096,
    label_delay: int = 0,
    window: int = WINDOW,
    fold: Fold | None = None,
    metrics: Sequence[str] = (),
    answers: AnswerRule = MOST_PROBABLE,
    on_start: Callable[[], None] = lambda: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    progress_at: Iterator[int] | None = None,
) -> ReplayResult:
    """Score a learner prequentially on a stream.

    Parameters
    ----------
    stream
        Where the events come from.
    make_learner
        Builds the learner for the stream's schema.
    events
        How many events; None = all of a finite stream.
    chunk
        Rows per block; the result does not depend on it.
    label_delay
        d: x_t is predicted at t, and learns its own label after x_{t+d} was predicted. 0 = at once. A stream whose
        blocks carry `delays` says it for each event itself.
    window
        Events of the sliding window.
    fold
        Score the events of this fold alone, and learn all others; None = every event is scored, then learnt.
    metrics
        Names of river's metrics to compute as well; see `stream_moe.evaluation.river_metrics`.
    answers
        How the class that is answered, and scored, follows from the probabilities; the state does not depend on it.
    on_start
        Called when learner and scores are made, so that nothing of the settings is wrong, and before the warm-up.
    on_progress, progress_at
        Called at each of these ascending event counts.

    Examples
    --------
    >>> from stream_moe.models.published.data import DriftMoEData
    >>> from stream_moe.streams import open_stream
    >>> result = replay(open_stream("electricity"), DriftMoEData, events=5000)
    >>> result.events, 0.7 < result.quality.accuracy < 0.9
    (5000, True)
    """
    started = time.perf_counter()
    if events is None and stream.n_events is None:
        raise DataError(f"stream {stream.name!r} is endless; say how many events with --events")
    wanted = min(n for n in (events, stream.n_events, 2**62) if n is not None)
    scores = _scores(stream.schema, window, metrics, answers)
    wide = f"{stream.schema.n_features:,} features and {stream.schema.n_classes:,} classes"
    with said_if_slow(f"making a model of {wide}"):
        learner = make_learner(stream.schema)
    run = _Run(learner, scores, fold, min(label_delay, LONGEST))
    blocks = stream.blocks(chunk)
    on_start()
    with said_if_slow("compiling the model, or reading its machine code"):
        _warm_up(stream, make_learner, window)
    timeline: Any = Timeline(wanted) if stream.schema.target is None else NumberTimeline(wanted)
    marks = progress_at if progress_at is not None else iter(())
    mark, samples = next(marks, None), timeline.marks()
    sample = next(samples)
    begin, cpu_begin = time.perf_counter(), time.process_time()
    block = next(blocks, None)
    while block is not None and run.done < wanted:
        rows = min(wanted, sample, mark if mark is not None else wanted) - run.done  # cut where progress is due
        run.take(block.first(rows))
        block = block.rest(rows) if rows < len(block) else next(blocks, None)
        if run.done not in (mark, sample):
            continue
        at, told = time.perf_counter() - begin, learner.report()  # once for both: it is a good part of their cost
        if run.done == mark:
            on_progress(Progress(run.done, at, scores.report(), told, scores, run.watch.report()))
            mark = next(marks, None)
        if run.done == sample:
            timeline.sample(run.done, scores.quality, told)
            sample = next(samples)
    run.finish()
    seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
    timeline.sample(run.done, scores.quality, learner.report())
    return ReplayResult(
        run.done, seconds, cpu_seconds, begin - started, learner.digest, scores.report(),
        learner.report(), learner.phases.seconds, scores.to_dict(), timeline.to_dict(),
        run.drifts, run.watch.report(),
    )  # fmt: skip


def _scores(schema: Schema, window: int, metrics: Sequence[str], answers: AnswerRule) -> Any:
    """Return the scores of a replay; ConfigError for what only classes have."""
    if schema.target is None:
        return Scoreboard(schema, window, metrics, answers.over(schema.classes))
    what = "--metric: river's metrics are" if metrics else "--cost and --threshold are" if answers.text else ""
    if what:
        raise ConfigError(f"{what} of classes, and {schema.target.name!r} is a number; leave them out")
    return NumberScores(window)


def _warm_up(stream: Stream, make_learner: Callable[[Schema], BlockClassifier], window: int) -> None:
    """Compile everything, or read its machine code, with a learner and scores that are of no other use.

    What is compiled depends on kinds, not on numbers: of a wide stream some features and classes will do.
    """
    whole = next(stream.blocks(WARM_UP_ROWS))
    schema, warm = _narrowed(stream.schema, whole)
    try:
        learner = make_learner(schema)
    except ConfigError:  # it asks for a feature that is not among them
        schema, warm = stream.schema, whole
        learner = make_learner(schema)
    if schema.target is not None:
        learner.step(warm.x, warm.y)
        NumberScores(window).update(np.zeros((1, schema.width)), np.zeros(1))
        DriftWatch(schema).compile()
        return
    compile_beside(learner)
    learner.step(warm.x, warm.y)
    compile_scores(schema, window)


def _narrowed(schema: Schema, block: Block) -> tuple[Schema, Block]:
    """Return a schema of the first few columns of each kind and the first few classes, and a block of those."""
    if (
        schema.sparse
        or schema.target is not None
        or (schema.n_features <= WARM_UP_WIDTH and schema.n_classes <= WARM_UP_WIDTH)
    ):
        return schema, block
    kinds = (np.flatnonzero(schema.n_categories == 0), np.flatnonzero(schema.n_categories))
    width = WARM_UP_WIDTH
    if schema.n_features > MOST_FEATURES:  # which has a pool of its own
        width, block = MOST_FEATURES + 1, block.first(WARM_UP_ROWS // 4)
    columns = np.sort(np.concatenate([kind[:width] for kind in kinds]))
    narrow = Schema(tuple(schema.features[j] for j in columns), schema.classes[:WARM_UP_WIDTH])
    labels = np.where(block.y == UNLABELLED, UNLABELLED, block.y % narrow.n_classes).astype(np.int32)
    return narrow, Block(block.x[:, columns], labels)


class _Run:
    """A replay under way: the learner, its scores, and the labels that have not arrived."""

    def __init__(self, learner: BlockClassifier, scores: Scoreboard, fold: Fold | None, label_delay: int) -> None:
        self.learner, self.scores = learner, scores
        self.watch, self.drifts = DriftWatch(learner.schema), list[Drift]()
        self.done = 0  # events
        self._labels, self._label_delay = DelayedLabels(learner.schema), label_delay
        self._tests = fold.start() if fold is not None else None

    def take(self, block: Block, *, last: bool = False) -> None:
        """Predict and learn the next events, and score those whose labels came."""
        n = len(block)
        learnt = scored = block.y
        if self._tests is not None:
            drawn = self._tests(n)
            learnt, scored = (np.where(mine, block.y, UNLABELLED).astype(np.int32) for mine in (~drawn, drawn))
        delays = self._label_delay if block.delays is None else block.delays
        joined = self._labels.join(Block(block.x, learnt), scored, delays, last=last)
        times = block.timestamps if block.timestamps is not None else np.full(n, -1)
        found = step(self.learner, self.watch, joined, np.arange(self.done, self.done + n), times)
        self.scores.update(found.scored, joined.scored, joined.seen)
        self.drifts += found.drifts
        self.done += n

    def finish(self) -> None:
        """Let the labels that are on their way arrive."""
        if self._labels.on_their_way:
            schema = self.learner.schema
            none: Any = SparseRows.empty() if schema.sparse else np.empty((0, schema.n_features), np.float32)
            self.take(Block(none, no_labels(schema)), last=True)


def no_labels(schema: Schema) -> Any:
    """Return labels of no event, of the kind that the schema has."""
    return np.empty(0, np.int32 if schema.target is None else np.float64)


def merged(*marks: Iterator[int]) -> Iterator[int]:
    """Yield what several ascending iterators yield, ascending, each number once; none is asked ahead of its turn.

    Examples
    --------
    >>> list(merged(iter([1, 2, 4, 8]), iter([3, 4])))
    [1, 2, 3, 4, 8]
    """
    return (mark for mark, _ in groupby(heapq.merge(*marks)))
