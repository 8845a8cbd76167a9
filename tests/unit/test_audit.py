"""The honesty check: honest models pass, and each way of cheating is found out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_moe.errors import ConfigError, DataError
from stream_moe.evaluation.audit import FAILED, NOTHING, PASSED, check_law, check_questions, check_score, score
from stream_moe.evaluation.subjects import OneByOne, Subject, TrainThenTest, load_class, make_user_subject
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import Block, Float32, Float64, Int32, Schema
from tests.unit.test_cli import CLI

STREAM = open_stream("electricity")
BLOCK = next(STREAM.blocks(600))
X, Y = BLOCK.x[:600], BLOCK.y[:600]


def verdicts(make: Callable[[], Subject]) -> dict[str, str]:
    return {check.name: check.verdict for check in check_law(make, X, Y, 2, probes=6)}


class Frequencies:
    """Honest: class frequencies so far. Its kin below do one thing wrong each."""

    def __init__(self) -> None:
        self.counts = np.ones(2)

    def step(self, x: Float32, y: Int32) -> Float64:
        proba = np.empty((len(y), 2))
        for t, label in enumerate(y):
            proba[t] = self.counts / self.counts.sum()
            self.counts[label] += label >= 0
        return proba


class KnowsItsLabel(Frequencies):
    def step(self, x: Float32, y: Int32) -> Float64:
        return super().step(x, y) * 0.99 + 0.01 * np.eye(2)[y]


class KnowsTheNextLabel(Frequencies):
    def step(self, x: Float32, y: Int32) -> Float64:
        return super().step(x, y) * 0.99 + 0.01 * np.eye(2)[np.append(y[1:], 0)]


class ScalesByTheBlock(Frequencies):
    def step(self, x: Float32, y: Int32) -> Float64:
        shift = 0.01 * (1 / (1 + np.exp(-np.nanmean(x[:, 1]))))
        return super().step(x, y) * 0.9 + [shift, 0.1 - shift]


class DrawsWithoutASeed(Frequencies):
    def step(self, x: Float32, y: Int32) -> Float64:
        return super().step(x, y) + np.random.default_rng().random((len(y), 1)) / 1000


class BroughtItsLabels(Frequencies):
    place = 0

    def step(self, x: Float32, y: Int32) -> Float64:
        self.place += len(y)
        return np.eye(2)[Y[self.place - len(y) : self.place]]


@pytest.mark.parametrize("model", ["naive-bayes", "driftmoe-data"])
def test_an_honest_model_passes_and_the_wrong_order_does_not(model: str) -> None:
    def make() -> Subject:
        return build_model(model, STREAM.schema)

    assert set(verdicts(make).values()) == {PASSED}
    found = verdicts(lambda: TrainThenTest(make()))
    assert (found["own label"], found["future"]) == (FAILED, FAILED)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Frequencies, {}),
        (KnowsItsLabel, {"own label": FAILED, "future": FAILED}),
        (KnowsTheNextLabel, {"own label": FAILED, "future": FAILED, "chunking": FAILED}),
        (ScalesByTheBlock, {"future": FAILED, "chunking": FAILED}),
        (BroughtItsLabels, {"learns": NOTHING}),
    ],
)
def test_each_leak_is_found_and_named(kind: type[Subject], wrong: dict[str, str]) -> None:
    found = verdicts(kind)
    assert len(found) == 5
    assert {name: verdict for name, verdict in found.items() if verdict != PASSED} == wrong


def test_what_draws_without_a_seed_cannot_be_checked() -> None:
    assert verdicts(DrawsWithoutASeed) == {"determinism": FAILED}


class Remembers:
    """A model of single events; its answer depends on how often it was asked, if `forgetful` is False."""

    def __init__(self, forgetful: bool) -> None:
        self.forgetful, self.asked, self.last = forgetful, 0, "UP"

    def predict_one(self, x: dict[str, Any]) -> str:
        self.asked += not self.forgetful
        return self.last if self.asked % 3 else "UP"

    def learn_one(self, x: dict[str, Any], y: str) -> None:
        self.last = y


@pytest.mark.parametrize(("forgetful", "verdict"), [(True, PASSED), (False, FAILED)])
def test_a_question_must_change_nothing(forgetful: bool, verdict: str) -> None:
    found = check_questions(lambda asks: OneByOne(Remembers(forgetful), STREAM.schema, asks), X, Y)
    assert found.verdict == verdict


class Coins:
    """y = x with probability 0.9, which is its Bayes rate."""

    name, schema, n_events, bayes_accuracy = "coins", Schema.numeric(1, ["0", "1"]), None, 0.9

    def blocks(self, rows: int) -> Iterator[Block]:
        rng = np.random.default_rng(1)
        while True:
            draws = rng.random((rows, 2))
            x = draws[:, :1] < 0.5
            yield Block(x.astype(np.float32), (x[:, 0] ^ (draws[:, 1] < 0.1)).astype(np.int32))


class Copies:
    """The Bayes predictor, right by chance in `luck` of its errors besides: a leak that no label would show."""

    def __init__(self, luck: float = 0.0) -> None:
        self.luck, self.rng = luck, np.random.default_rng(2)

    def step(self, x: Float32, y: Int32) -> Float64:
        answer = np.where(self.rng.random(len(y)) < self.luck, y, x[:, 0].astype(int))
        return np.eye(2)[answer]


@pytest.mark.parametrize(("luck", "verdict"), [(0.0, PASSED), (0.2, FAILED)])
def test_a_score_above_the_bayes_rate_is_caught(luck: float, verdict: str) -> None:
    stages = score(Copies(luck), Coins(), 20_000)
    assert [stage.events for stage in stages] == list(range(2000, 20_001, 2000))
    last = stages[-1]
    assert last.standard_error == pytest.approx(np.sqrt(last.accuracy * (1 - last.accuracy) / 20_000))
    assert last.sigmas == pytest.approx((last.accuracy - 0.9) / np.sqrt(0.09 / 20_000))
    assert check_score(stages, 0.9).verdict == verdict
    assert check_score(stages, None).verdict == NOTHING


def test_stages_of_few_events_and_of_a_stream_that_ends_early() -> None:
    assert [stage.events for stage in score(Copies(), Coins(), 3)] == [1, 2, 3]
    model = build_model("no-change", STREAM.schema)
    assert score(model, STREAM, 50_000)[-1].events == 45_312


def test_one_label_is_too_few() -> None:
    with pytest.raises(DataError, match="1 labelled events of 2 classes"):
        check_law(Frequencies, X[:1], Y[:1], 2)


MODULE = """
class Good:
    def __init__(self, seed):
        self.last = "UP"
    def predict_one(self, x):
        return self.last
    def learn_one(self, x, y):
        self.last = y

class Block(Good):
    def step(self, x, y):
        import numpy
        return numpy.eye(2)[y]

class Half:
    def learn_one(self, x, y): ...

class Breaks(Good):
    def predict_one(self, x):
        return x["no such feature"]

class Needs(Good):
    def __init__(self, what): ...
"""


def test_a_class_of_ones_own_from_the_terminal(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODULE)
    results = {}
    for name in ("Good", "Block", "Breaks"):
        command = [
            *CLI,
            "audit",
            "electricity",
            "--class",
            f"mine:{name}",
            "--events",
            "500",
            "--json",
            f"{name}.json",
        ]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        results[name] = done
    assert results["Good"].returncode == 0, results["Good"].stderr
    assert "Honest" in results["Good"].stdout
    content = json.loads((tmp_path / "Good.json").read_text())
    assert {check["name"] for check in content["checks"]} >= {"own label", "future", "questions", "score"}
    assert (content["exit_code"], content["events"]) == (0, 500)
    assert results["Block"].returncode == 1
    assert "own label, future failed" in results["Block"].stdout
    assert results["Breaks"].returncode == 2
    assert "mine:Breaks: KeyError: 'no such feature' (mine.py, line" in results["Breaks"].stderr
    assert len(results["Breaks"].stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("audited_module", "write it as package.module:Class"),
        ("audited_module:Missing", "no class 'Missing'; it has Good, "),
        ("audited_nowhere:Good", "no module 'audited_nowhere'; it must be installed here or lie in"),
        ("audited_module:Half", "it needs learn_one"),
        ("audited_module:Needs", "missing 1 required positional argument: 'what'"),
    ],
)
def test_a_class_that_does_not_fit_is_told(
    name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "audited_module.py").write_text(MODULE)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "audited_module", raising=False)
    with pytest.raises(ConfigError, match=said):
        make_user_subject(name, load_class(name, tmp_path), STREAM.schema, 1)
