"""From class probabilities to an answer: the most probable class, the one of least expected cost, or a threshold.

A rule is applied when an answer is given, and to it alone: nothing that is learnt depends on it, so it may change
with every start. `AnswerRule` is a rule as a user writes it, by names; `Answers` is one over the classes of a schema.

Source: Elkan, The foundations of cost-sensitive learning, IJCAI 2001.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.runtime.compiled import compiled
from stream_moe.runtime.files import read_text
from stream_moe.types import Float64, Int32, Int64
from stream_moe.values import Names, name_of

LONGEST = 200  # characters of a rule that reports show
USUAL_COST = 1.0  # of a wrong answer of which nothing is said


@compiled(_nrt=False)
def highest(proba: Float64, t: int) -> tuple[int, float]:
    """Return the class of highest probability in row t, the first of several, and that probability."""
    best, top = 0, proba[t, 0]
    for c in range(1, proba.shape[1]):
        if proba[t, c] > top:  # the value is kept, so that no branch has to be predicted
            best, top = c, proba[t, c]
    return best, top


@compiled(_nrt=False)
def most_probable(proba: Float64, out: Int32) -> None:
    for t in range(proba.shape[0]):
        out[t], _ = highest(proba, t)


@compiled(_nrt=False)
def cheapest(proba: Float64, costs: Float64, out: Int32) -> None:
    """Name the class of least expected cost, the first of several; costs [C, C] by true class and answer."""
    for t in range(proba.shape[0]):
        best, least = 0, np.inf
        for answer in range(costs.shape[1]):
            expected = 0.0
            for c in range(costs.shape[0]):  # in one order, whatever the block: the sum has the same bits
                expected += proba[t, c] * costs[c, answer]
            if expected < least:
                best, least = answer, expected
        out[t] = best


@compiled(_nrt=False)
def from_threshold(proba: Float64, chosen: int, least: float, out: Int32) -> None:
    """Name a class from this probability on, else the most probable of the others."""
    for t in range(proba.shape[0]):
        best, top = -1, -np.inf
        for c in range(proba.shape[1]):
            if c != chosen and proba[t, c] > top:
                best, top = c, proba[t, c]
        out[t] = chosen if proba[t, chosen] >= least or best < 0 else best


class Answers:
    """How answers follow from the probabilities of some classes.

    Parameters
    ----------
    costs
        float64 [C, C] by true class and answer; None = all errors are alike, and the most probable class is answered.
    text
        The rule in words; empty = the most probable class.

    Examples
    --------
    >>> proba = np.array([[0.95, 0.05], [0.8, 0.2]])
    >>> Answers().of(proba).tolist(), AnswerRule.read("fraud:fair=10").over(["fair", "fraud"]).of(proba).tolist()
    ([0, 0], [0, 1])
    """

    def __init__(self, costs: Float64 | None = None, text: str = "") -> None:
        self.costs, self.text = costs, text
        self._threshold: tuple[int, float] | None = None

    @classmethod
    def threshold(cls, chosen: int, least: float, n_classes: int, text: str = "") -> Answers:
        """Return the rule that answers a class from a probability P on, and the most probable of the others below it.

        The costs that it stands for are 1 - P where the class is missed, and P where it is named wrongly.
        """
        costs = np.zeros((n_classes, n_classes))
        costs[:, chosen], costs[chosen], costs[chosen, chosen] = least, 1 - least, 0
        found = cls(costs, text)
        found._threshold = chosen, least
        return found

    def of(self, proba: Float64) -> Int32:
        """Return the answers int32 [n] that follow from probabilities float64 [n, C]."""
        out, proba = np.empty(len(proba), np.int32), np.ascontiguousarray(proba, np.float64)
        if self._threshold is not None:
            from_threshold(proba, *self._threshold, out)
        elif self.costs is not None:
            cheapest(proba, self.costs, out)
        else:
            most_probable(proba, out)
        return out

    def total(self, confusion: Int64) -> float | None:
        """Cost of all answers, of which int64 [C, C] by true class and answer are counts; None without costs."""
        return None if self.costs is None else float((confusion * self.costs).sum())

    def fixed(self, labels: Int64) -> Float64 | None:
        """Cost float64 [C] of having named each class always, of int64 [C] labels; None without costs."""
        return None if self.costs is None else labels @ self.costs


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """How answers follow from probabilities, by the names of classes.

    Parameters
    ----------
    costs
        (true class, answer, cost) of each pair that is not as usual: 0 for a right answer, 1 for a wrong one.
    threshold
        A class, and the probability from which on it is answered; below it is the most probable of the others.
    text
        The rule in words; empty = the most probable class.

    Examples
    --------
    >>> AnswerRule.read(threshold="fraud=0.1").text
    'threshold fraud=0.1'
    >>> AnswerRule.read("fraud:fair=-1")
    Traceback (most recent call last):
    stream_moe.errors.ConfigError: cost: fraud:fair=-1: a cost is a number that is not below 0
    """

    costs: tuple[tuple[str, str, float], ...] = ()
    threshold: tuple[str, float] | None = None
    text: str = ""

    @classmethod
    def read(cls, cost: str | None = None, threshold: str | None = None) -> AnswerRule:
        """Read a rule: `cost` as "truth:answer=cost,..." or the name of a TOML or CSV file, or a `threshold`.

        Raises
        ------
        ConfigError
            If both are given, or what is given is no such rule.
        """
        if cost is not None and threshold is not None:
            raise ConfigError(f"cost {cost!r} and threshold {threshold!r}: one rule decides; give one of them")
        if cost is not None:
            return cls.of_costs(_pairs(cost))
        if threshold is None:
            return cls()
        name, equals, number = threshold.rpartition("=")
        if not (name and equals):
            raise ConfigError(f"threshold: {threshold!r}: write it as CLASS=P")
        return cls.of_threshold(name.strip(), number)

    @classmethod
    def of_costs(cls, costs: Iterable[tuple[Any, Any, Any]]) -> AnswerRule:
        """Return the rule of least expected cost, from (true class, answer, cost); ConfigError where one is wrong."""
        pairs: dict[tuple[str, str], float] = {}
        for truth, answer, given in costs:
            pair = name_of(truth), name_of(answer)
            where = f"cost: {pair[0]}:{pair[1]}={given}"
            value = _number(given)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"{where}: a cost is a number that is not below 0")
            if pair in pairs:
                raise ConfigError(f"{where}: this pair has a cost already; give one cost for each pair")
            pairs[pair] = value
        if not pairs:
            raise ConfigError("cost: there is none; write truth:answer=cost, as fraud:fair=10")
        said = ",".join(f"{truth}:{answer}={value:g}" for (truth, answer), value in pairs.items())
        return cls(tuple((*pair, value) for pair, value in pairs.items()), None, _short(f"cost {said}"))

    @classmethod
    def of_threshold(cls, name: Any, least: Any) -> AnswerRule:
        """Return the rule that answers a class from a probability on; ConfigError unless that is in 0..1."""
        value = _number(least)
        if not 0 <= value <= 1:
            raise ConfigError(f"threshold: {name_of(name)}={least}: a probability is a number from 0 to 1")
        return cls((), (name_of(name), value), _short(f"threshold {name_of(name)}={value:g}"))

    def over(self, classes: Sequence[str], *, partly: bool = False) -> Answers:
        """Return the rule over the classes of a schema; ConfigError where it names another, unless `partly`."""
        names = Names(classes)

        def index(what: str, name: str) -> int | None:
            found = names.find(name)
            if found is None and not partly:
                known = ", ".join(classes[:8]) + (", ..." if len(classes) > 8 else "")
                raise ConfigError(f"{what}: {name[:60]!r} is no class; the classes are {known}")
            return found

        if self.threshold is not None:
            chosen = index("threshold", self.threshold[0])
            return (
                Answers() if chosen is None else Answers.threshold(chosen, self.threshold[1], len(classes), self.text)
            )
        if not self.costs:
            return Answers()
        costs = USUAL_COST * (1 - np.eye(len(classes)))
        for truth, answer, cost in self.costs:
            pair = index("cost", truth), index("cost", answer)
            if None not in pair:
                costs[pair] = cost
        return Answers(costs, text=self.text)


MOST_PROBABLE = AnswerRule()


def _number(given: Any) -> float:
    try:
        return float(given)
    except (TypeError, ValueError):
        return math.nan


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _pairs(cost: str) -> list[tuple[str, str, Any]]:
    path = Path(cost)
    if path.suffix.lower() in (".toml", ".csv"):
        text = read_text(path, f"cost: {cost}")
        return _pairs_of_toml(cost, text) if path.suffix.lower() == ".toml" else _pairs_of_csv(cost, text)
    found = []
    for part in next(csv.reader([cost], skipinitialspace=True), []):
        pair, equals, value = part.strip().rpartition("=")
        truth, colon, answer = pair.partition(":")
        if not (equals and colon and truth.strip() and answer.strip()):
            raise ConfigError(
                f"cost: {part.strip()!r}: write truth:answer=cost, separated by commas, or name a file "
                "that ends in .toml or .csv"
            )
        found.append((truth.strip(), answer.strip(), value.strip()))
    return found


def _pairs_of_toml(name: str, text: str) -> list[tuple[str, str, Any]]:
    """A table for each true class, in which each answer has its cost."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"cost: {name}: no TOML: {error}") from None
    found = []
    for truth, row in tables.items():
        if not isinstance(row, dict):
            raise ConfigError(f"cost: {name}: {truth!r} is no table; write [{truth}] and below it ANSWER = COST")
        found += [(truth, answer, math.nan if isinstance(value, bool) else value) for answer, value in row.items()]
    return found


def _pairs_of_csv(name: str, text: str) -> list[tuple[str, str, Any]]:
    """A row for each true class behind its name; the first row names the answers. An empty cell is as usual."""
    rows = [row for row in csv.reader(text.splitlines(), skipinitialspace=True) if any(map(str.strip, row))]
    if len(rows) < 2 or any(len(row) != len(rows[0]) for row in rows):
        raise ConfigError(
            f"cost: {name}: no matrix; the first row names the answers, each further one a true class and its costs"
        )
    answers = rows[0][1:]
    return [
        (row[0].strip(), answer.strip(), value.strip())
        for row in rows[1:]
        for answer, value in zip(answers, row[1:], strict=True)
        if value.strip()
    ]
