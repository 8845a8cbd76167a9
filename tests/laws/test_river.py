"""River's own checks, and its tools, over our learners."""

# ruff: noqa: TID251, S301 - river itself deep-copies and pickles models; that it works is what is tested here.
from __future__ import annotations

import copy
import pickle
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from typing import Any

import pytest
from river import checks, compose, datasets, evaluate, metrics, preprocessing

from stream_moe.experts.linear.softmax import SoftmaxRegression
from stream_moe.experts.naive_bayes import NaiveBayes
from stream_moe.experts.neighbours.knn import WindowKNN
from stream_moe.experts.no_change import NoChange
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.published.data import DriftMoEData
from stream_moe.models.published.task import DriftMoETask
from stream_moe.models.single import SingleExpert

MODELS: dict[str, Callable[[], BlockClassifier]] = {
    "driftmoe-data": lambda: DriftMoEData(seed=1, n_experts=4, mini_batch=64),
    "driftmoe-task": lambda: DriftMoETask(seed=1),
    "hoeffding-tree": SingleExpert,
    "knn": lambda: SingleExpert(expert=WindowKNN, parameters={"window": 200}),
    "naive-bayes": lambda: SingleExpert(expert=NaiveBayes),
    "softmax": lambda: SingleExpert(expert=SoftmaxRegression),
    "no-change": lambda: SingleExpert(expert=NoChange),
}


@pytest.fixture
def no_sklearn_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """River's checks import sklearn's data sets for regressors; for classifiers they never touch them."""
    sklearn = types.ModuleType("sklearn")
    sklearn.__spec__ = ModuleSpec("sklearn", None)
    sklearn.datasets = types.ModuleType("sklearn.datasets")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sklearn", sklearn)


@pytest.mark.usefixtures("no_sklearn_needed")
@pytest.mark.parametrize("name", MODELS)
def test_river_checks(name: str) -> None:
    model = MODELS[name]()
    assert not model._unit_test_skips()
    done = set()
    for check in checks.yield_checks(model):
        check(model.clone())
        done.add(check.__name__)
    assert len(done) > 25
    assert {"check_pickling", "check_clone_is_independent", "check_bounded_memory_growth"} <= done


@pytest.mark.parametrize("name", MODELS)
def test_works_in_rivers_evaluation_and_pipeline(name: str) -> None:
    model = compose.Pipeline(preprocessing.StandardScaler(), MODELS[name]())
    both = metrics.Accuracy() + metrics.CohenKappa() + metrics.LogLoss()
    evaluate.progressive_val_score(datasets.Phishing(), model, both)
    accuracy, kappa, log_loss = (metric.get() for metric in both)
    assert accuracy > (0.45 if name == "no-change" else 0.75)
    assert kappa > (-0.1 if name == "no-change" else 0.5)
    assert log_loss < 3


@pytest.mark.parametrize("name", MODELS)
def test_copies_are_equal_then_independent(name: str) -> None:
    model = MODELS[name]()
    events = list(datasets.ImageSegments().take(400))
    for x, y in events[:300]:
        model.learn_one(x, y)
    digest = model.digest
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.digest == digest
        for x, y in events[300:]:
            copied.learn_one(x, y)
        assert copied.digest != digest
        assert model.digest == digest
    for x, y in events[300:]:
        model.learn_one(x, y)
    assert model.digest == copied.digest


@pytest.mark.parametrize("name", MODELS)
def test_a_clone_starts_anew_with_the_parameters_given(name: str) -> None:
    model = MODELS[name]()
    fresh = repr(model)
    for x, y in datasets.ImageSegments().take(60):
        model.learn_one(x, y)
    clone = model.clone()
    assert repr(model) == repr(clone) == fresh
    assert clone.predict_proba_one({"a": 1}) == {}
    for x, y in datasets.ImageSegments().take(60):
        clone.learn_one(x, y)
    assert clone.digest == model.digest


WILD: list[dict[Any, Any]] = [
    {},
    {"n": 10**400, "c": "new"},
    {"n": float("inf"), "c": 3},
    {"n": "text", "c": None},
    {"n": None, "other": True, 7: 1},
    {"n": float("nan"), "c": "red", "²": 1.0},
    {"n": 1e300, "c": float("nan")},
]


@pytest.mark.parametrize("name", MODELS)
def test_any_value_is_borne(name: str) -> None:
    model = MODELS[name]()
    for t in range(70):
        model.learn_one({"n": t % 7, "c": "red" if t % 2 else "blue"}, t % 2 == 1)
        model.learn_one(WILD[t % len(WILD)], t % 2 == 1)
    for x in WILD:
        proba: dict[Any, float] = model.predict_proba_one(x)
        assert set(proba) == {False, True}
        assert sum(proba.values()) == pytest.approx(1)
