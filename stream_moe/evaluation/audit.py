"""The honesty check: does a prediction depend on its own label or on what follows, and is the score possible?

The law is checked by experiment. The labels from event t on, and all features after it, are changed: every prediction
up to and including the t-th must stay the same to the last bit. A second run changes the label of event t alone. A
model that is not deterministic can't be checked so, and one that no label ever changes would pass without meaning.

The score is compared with the stream's Bayes rate p: n independent events scatter by sqrt(p (1 - p) / n), and nothing
that knows only the past is better than p in expectation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from stream_moe.errors import ConfigError, DataError
from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.subjects import Subject
from stream_moe.ports import Stream
from stream_moe.streams.blocks import labelled_blocks
from stream_moe.types import Float32, Float64, Int32

PROBED = 1000  # events that each experiment lasts
ROWS = 256  # a block: a model that looks ahead inside its block has so much to look at
TOO_GOOD = 4.0  # standard errors above the Bayes rate: by luck in 1 of 30,000 rows
STAGES = 10  # rows of the score
BLOCK = 4096
PASSED, FAILED, NOTHING = "passed", "FAILED", "shows nothing"


@dataclass(frozen=True, slots=True)
class Check:
    """One check: what was looked at, what became of it, and in words what was seen."""

    name: str
    verdict: str
    said: str


@dataclass(frozen=True, slots=True)
class Stage:
    """The score after some events; `sigmas` above the Bayes rate, None where that is not known."""

    events: int
    accuracy: float
    standard_error: float
    sigmas: float | None


def check_law(
    make: Callable[[], Subject], x: Float32, y: Int32, n_classes: int, *, probes: int = 10, seed: int = 1
) -> list[Check]:
    """Check determinism, no leak and chunking on the first events of a stream: x float32 [n, d], y int32 [n].

    `make` makes the model anew, each time in the same state. At as many events t as `probes`, drawn by `seed`, labels
    are changed. DataError if there are fewer than two labelled events, or one class.

    Examples
    --------
    >>> class Last:  # no-change
    ...     last = 0
    ...     def step(self, x, y):
    ...         proba = np.zeros((len(y), 2))
    ...         for t, label in enumerate(y):
    ...             proba[t, self.last] = 1
    ...             self.last = label
    ...         return proba
    >>> x, y = np.zeros((50, 1), np.float32), np.arange(50, dtype=np.int32) % 2
    >>> [check.verdict for check in check_law(Last, x, y, 2)]
    ['passed', 'passed', 'passed', 'passed', 'passed']
    """
    labelled = np.flatnonzero(y >= 0)
    if len(labelled) < 2 or n_classes < 2:
        raise DataError(f"{len(labelled)} labelled events of {n_classes} classes; an audit needs two of each")
    proba = run(make(), x, y)
    if not np.array_equal(run(make(), x, y), proba):
        said = f"two runs over the same {len(y):,} events differ; give the model a seed, or the law can't be checked"
        return [Check("determinism", FAILED, said)]
    found = [Check("determinism", PASSED, f"two runs over {len(y):,} events, equal to the last bit")]
    generator = np.random.default_rng(seed)
    at = np.sort(generator.choice(labelled[:-1], min(probes, len(labelled) - 1), replace=False))
    own, later, moved = list[str](), list[str](), 0
    for t in at.tolist():
        end = min(len(y), t + 1 + ROWS)
        flipped = y.copy()
        flipped[t] = (y[t] + 1) % n_classes
        answer = run(make(), x[:end], flipped[:end])
        own += _differences(answer, proba, t, f"the label of event {t + 1:,}")
        moved += not np.array_equal(answer[t + 1 :], proba[t + 1 : end])
        other_x, other_y = x[np.append(np.arange(t + 1), np.arange(len(y) - 1, t, -1))], flipped
        other_y[t:] = np.where(y[t:] >= 0, (y[t:] + 1) % n_classes, y[t:])
        answer = run(make(), other_x[:end], other_y[:end])
        later += _differences(answer, proba, t, f"all that follows the features of event {t + 1:,}")
        moved += not np.array_equal(answer[t + 1 :], proba[t + 1 : end])
    idle = [] if moved else ["no changed label moved any prediction: it may know its labels from elsewhere"]
    sizes = [rows for rows in (1, 7, len(y)) if not np.array_equal(run(make(), x, y, rows), proba)]
    cut = [f"blocks of {rows} events give other predictions than those of {ROWS}" for rows in sizes[:1]]
    return [
        *found,
        _law("own label", own, f"{len(at)} labels changed, one at a time: no prediction up to its own event changed"),
        _law("future", later, f"{len(at)} futures changed, own label included: no prediction before them changed"),
        _check("learns", idle, f"{moved} of {2 * len(at)} changes moved later predictions", NOTHING),
        _check("chunking", cut, f"blocks of 1, 7, {ROWS} and {len(y):,} events give the same predictions"),
    ]


def check_questions(make: Callable[[int], Subject], x: Float32, y: Int32) -> Check:
    """Check that a question changes nothing: a model of single events is asked three times about each.

    `make(asks)` makes it anew.
    """
    same = np.array_equal(run(make(3), x, y), run(make(1), x, y))
    otherwise = [] if same else ["asked three times about each event it answers otherwise: predicting changes it"]
    return _check("questions", otherwise, "asked three times about each event it answers as when asked once")


def score(
    subject: Subject, stream: Stream, events: int, *, on_stage: Callable[[Stage], None] = lambda stage: None
) -> list[Stage]:
    """Score a subject on the first events of a stream, and compare each tenth of the way with the Bayes rate."""
    quality, bayes = Prequential(stream.schema.n_classes), stream.bayes_accuracy
    marks = iter(sorted({-(-events * n // STAGES) for n in range(1, STAGES + 1)}))
    mark, done, stages = next(marks), 0, list[Stage]()

    def reached() -> None:
        stages.append(_stage(done, quality, bayes))
        on_stage(stages[-1])

    for block in labelled_blocks(stream, events, BLOCK):
        start = 0
        while start < len(block):
            part = slice(start, min(start + mark - done, len(block)))
            quality.update(subject.step(block.x[part], block.y[part]), block.y[part])
            done, start = done + part.stop - start, part.stop
            if done == mark:
                mark = next(marks, mark)
                if quality.events:
                    reached()
    if not quality.events:
        raise DataError(f"{stream.name}: no labelled event in {done:,}; name another --label, or more --events")
    if not stages or stages[-1].events < done:  # a stream shorter than was asked for
        reached()
    return stages


def check_score(stages: Sequence[Stage], bayes: float | None) -> Check:
    """Judge a score by the Bayes rate.

    Examples
    --------
    >>> check_score([Stage(50_000, 0.750, 0.002, 5.1)], 0.74).verdict
    'FAILED'
    """
    last = stages[-1]
    scored = f"accuracy {last.accuracy:.2%} (standard error {last.standard_error:.2%}) after {last.events:,} events"
    if bayes is None:
        return Check("score", NOTHING, f"{scored}; the stream's Bayes rate is not known")
    best = max(stages, key=lambda stage: stage.sigmas or 0.0)
    if best.sigmas is not None and best.sigmas > TOO_GOOD:
        said = (
            f"accuracy {best.accuracy:.2%} after {best.events:,} events is {best.sigmas:.1f} standard errors above "
            f"the Bayes rate {bayes:.2%}: no model that knows only the past can do that"
        )
        return Check("score", FAILED, said)
    return Check("score", PASSED, f"{scored}; the Bayes rate is {bayes:.2%}")


def run(subject: Subject, x: Float32, y: Int32, rows: int = ROWS) -> Float64:
    """Step through events in blocks; return the predictions float64 [n, C]."""
    parts = [subject.step(x[s : s + rows].copy(), y[s : s + rows].copy()) for s in range(0, len(y), rows)]
    if len({part.shape[1] for part in parts}) > 1:
        raise ConfigError("the model answers with a changing number of classes; give it all classes of the schema")
    return np.concatenate(parts)


def _stage(events: int, quality: Prequential, bayes: float | None) -> Stage:
    n, accuracy = quality.events, quality.report().accuracy
    sigmas = None if bayes is None else (accuracy - bayes) / math.sqrt(bayes * (1 - bayes) / n) if bayes < 1 else 0.0
    return Stage(events, accuracy, math.sqrt(accuracy * (1 - accuracy) / n), sigmas)


def _check(name: str, seen: list[str], well: str, otherwise: str = FAILED) -> Check:
    return Check(name, otherwise, seen[0]) if seen else Check(name, PASSED, well)


def _law(name: str, seen: list[str], well: str) -> Check:
    return _check(name, [f"{each} ({len(seen)} cases)" for each in seen[:1]], well)


def _differences(answer: Float64, proba: Float64, t: int, changed: str) -> list[str]:
    """Say which prediction up to the t-th is the first that a change moved."""
    moved = np.flatnonzero((answer[: t + 1] != proba[: t + 1]).any(1))
    if not len(moved):
        return []
    s = int(moved[0])
    c = int(np.abs(answer[s] - proba[s]).argmax())
    whose = "its own prediction" if s == t else f"the prediction of event {s + 1:,}"
    return [f"changing {changed} moved {whose}: class {c} from {proba[s, c]:.4f} to {answer[s, c]:.4f}"]
