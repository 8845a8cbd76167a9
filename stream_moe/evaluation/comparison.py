"""Several results side by side: mean and interval over seeds, and which models differ over streams.

Source of the ranks: Demsar, Statistical comparisons of classifiers over multiple data sets (JMLR 2006), sections
3.2.2 and 3.2.4.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_moe.evaluation.intervals import mean_interval

LEVEL = 0.95


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one stream, over seeds. Accuracies are shares, 0-1."""

    stream: str
    variant: str  # settings, delay and folds, as text
    model: str
    events: int
    scores: tuple[float, ...]  # accuracy by seed
    half_width: float  # of the 95 % interval of the mean; NaN where there is none
    kappa: float  # mean
    cpu_seconds: float  # mean
    delayed: bool = False  # labels came later than their events: another task than the one published figures are of

    @property
    def name(self) -> str:
        """The model, with its variant where there is one."""
        return f"{self.model} ({self.variant})" if self.variant else self.model

    @property
    def mean(self) -> float:
        """Mean accuracy over the seeds."""
        return statistics.mean(self.scores)


def published_for(cell: Cell, published: Mapping[str, Mapping[str, float]]) -> float | None:
    """Return the published accuracy in % that a cell may be held against; None where there is none."""
    return None if cell.delayed else published.get(cell.stream, {}).get(cell.model)


def cells(results: Iterable[Mapping[str, Any]]) -> list[Cell]:
    """Group results by stream, variant and model, in the order in which they first come.

    Examples
    --------
    >>> one = {"stream": "s", "model": "m", "seed": 1, "events": 10, "accuracy": 0.7}
    >>> [(cell.stream, cell.model, round(cell.mean, 3)) for cell in cells([one, one | {"seed": 2, "accuracy": 0.8}])]
    [('s', 'm', 0.75)]
    """
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["stream"], variant_of(result), result["model"]), []).append(result)
    return [
        Cell(
            stream, variant, model, min(int(r["events"]) for r in found), tuple(float(r["accuracy"]) for r in found),
            _half_width(found), statistics.mean(float(r.get("kappa") or 0.0) for r in found),
            statistics.mean(float(r.get("cpu_seconds") or 0.0) for r in found), bool(found[0].get("label_delay")),
        )
        for (stream, variant, model), found in groups.items()
    ]  # fmt: skip


def _half_width(results: Sequence[Mapping[str, Any]]) -> float:
    """Over seeds; over folds where there is one seed of a cross-validation."""
    if len(results) == 1 and "intervals" in results[0]:
        interval = results[0]["intervals"]["accuracy"]
        return float(interval["high"] - interval["low"]) / 2
    found = mean_interval([float(result["accuracy"]) for result in results], LEVEL)
    return (found.high - found.low) / 2


def competitor(result: Mapping[str, Any]) -> str:
    """Return what competes: the model, with its variant where there is one."""
    variant = variant_of(result)
    return f"{result['model']} ({variant})" if variant else str(result["model"])


def variant_of(result: Mapping[str, Any]) -> str:
    """Return what tells results of one model on one stream apart, seeds aside."""
    parts = [str(result["settings"])] if result.get("settings") else []
    if delay := result.get("label_delay"):
        parts.append(f"delay {delay:,}" if isinstance(delay, int) else f"delay of column {delay}")
    parts += [f"{result['folds']} folds"] if isinstance(result.get("folds"), int) else []
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Average ranks of k models over N streams (1 = best), and what may be said of them."""

    models: tuple[str, ...]  # best first
    ranks: tuple[float, ...]
    streams: tuple[str, ...]
    p_value: float  # of Friedman's test that all models are alike
    critical_difference: float  # Nemenyi, at 5 %: ranks that are closer do not differ

    @property
    def groups(self) -> list[tuple[int, int]]:
        """First and last model of each longest run whose ranks lie within the critical difference."""
        found: list[tuple[int, int]] = []
        for first in range(len(self.ranks)):
            last = max(n for n, rank in enumerate(self.ranks) if rank - self.ranks[first] <= self.critical_difference)
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found


def friedman_ranks(scores: Mapping[str, Mapping[str, float]]) -> Ranks | None:
    """Rank models over the streams that all of them have; None for fewer than three models or two streams.

    Parameters
    ----------
    scores
        Accuracy by stream, then by model.

    Examples
    --------
    >>> scores = {f"s{n}": {"a": 0.9, "b": 0.8 + n / 100, "c": 0.7} for n in range(6)}
    >>> found = friedman_ranks(scores)
    >>> found.models, found.ranks, round(found.critical_difference, 3), found.groups
    (('a', 'b', 'c'), (1.0, 2.0, 3.0), 1.353, [(0, 1), (1, 2)])
    """
    from scipy import stats

    models = sorted({model for row in scores.values() for model in row})
    streams = [stream for stream, row in scores.items() if len(row) == len(models)]
    k, n = len(models), len(streams)
    if k < 3 or n < 2:
        return None
    table = np.array([[scores[stream][model] for model in models] for stream in streams])
    ranks = stats.rankdata(-table, axis=1).mean(0)
    alike = bool((table == table[:, :1]).all())  # no test then
    p_value = 1.0 if alike else float(stats.friedmanchisquare(*table.T).pvalue)
    critical = float(stats.studentized_range.ppf(LEVEL, k, np.inf)) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n))
    order = np.argsort(ranks, kind="stable")
    return Ranks(
        tuple(models[i] for i in order), tuple(float(ranks[i]) for i in order), tuple(streams), p_value, critical
    )
