"""Models by name: settings as text, and what is said when they do not fit."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from stream_moe.errors import ConfigError
from stream_moe.models.catalogue import build_model, model_names, warning
from stream_moe.models.published.data import DriftMoEData
from stream_moe.models.published.task import DriftMoETask
from stream_moe.types import Schema
from tests.laws.cases import SCHEMA as MIXED
from tests.laws.cases import mixed_stream

SCHEMA = Schema.numeric(2, ["no", "yes"])


def test_every_name_builds_with_and_without_a_schema() -> None:
    for name in model_names():
        for schema in (SCHEMA, None):
            model = build_model(name, schema, seed=7)
            model.learn_one({"x0": 1.0, "x1": 2.0}, "yes")
            assert model.predict_one({"x0": 1.0, "x1": 2.0}) in {"no", "yes"}
        assert name.startswith("driftmoe") or model.report().experts[0].kind == name


def test_settings_are_converted_by_annotation() -> None:
    model = build_model("driftmoe-task", SCHEMA, seed=9, threads=2, options={"vote": "yes", "hidden": "64"})
    assert isinstance(model, DriftMoETask)
    assert (model.seed, model.threads, model.vote, model.hidden) == (9, 2, True, 64)
    options = {"n_experts": "4", "top_k": "2", "temperature": "0.5"}
    model = build_model("driftmoe-data", SCHEMA, options=options)
    assert isinstance(model, DriftMoEData)
    assert (model.n_experts, model.top_k, model.temperature) == (4, 2, 0.5)
    tree = build_model("hoeffding-tree", SCHEMA, options={"leaf_prediction": "majority", "max_nodes": "7"})
    assert repr(tree.clone()) == repr(tree)
    assert "'leaf_prediction': 'majority', 'max_nodes': 7" in repr(tree)


DATA = {"n_experts": "6", "top_k": "2", "mini_batch": "64"}
TWO_STAGE = {"n_experts": "6", "mini_batch": "64", "burn_in": "200", "first_half": "600"}


@pytest.mark.parametrize(
    ("name", "options", "changes"),
    [
        (
            "driftmoe-data",
            DATA,
            {
                "n_experts": "7", "top_k": "3", "mini_batch": "65", "temperature": "0.5", "hidden": "64",
                "learning_rate": "0.01", "grace_period": "100", "delta": "0.5", "tie_threshold": "0.5",
            },
        ),
        ("driftmoe-task", {}, {"vote": "true", "hidden": "64", "learning_rate": "0.01", "delta": "0.5"}),
        (
            "driftmoe-two-stage",
            TWO_STAGE,
            {
                "variant": "task", "clusters": "gmm", "burn_in": "201", "first_half": "601", "n_experts": "2",
                "mini_batch": "65", "hidden": "64", "temperature": "0.5", "learning_rate": "0.01",
                "grace_period": "100", "delta": "0.5", "tie_threshold": "0.5",
            },
        ),
    ],
)  # fmt: skip
def test_every_setting_of_the_variants_acts(name: str, options: dict[str, str], changes: dict[str, str]) -> None:
    x, y = mixed_stream(1500)

    def digest(options: dict[str, str], seed: int = 1) -> str:
        model = build_model(name, MIXED, seed=seed, options=options)
        assert np.allclose(model.step(x, y).sum(1), 1)
        return model.digest

    usual = digest(options)
    assert digest(options) == usual != digest(options, seed=2)
    assert [key for key, value in changes.items() if digest(options | {key: value}) == usual] == []
    with pytest.raises(ConfigError) as found:
        build_model(name, MIXED, options={"no such": ""})
    told = str(found.value).partition("its settings are ")[2].split(", ")
    told = [
        key for key in told if key not in {"executor", "shards"}
    ]  # which must not act: tests/laws/test_executors.py
    assert set(told) - set(changes) <= ({"grace_period", "tie_threshold"} if name == "driftmoe-task" else set())


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("forest", {}, r"'forest' does not exist.*driftmoe, driftmoe-data, driftmoe-task"),
        ("knn", {"neighbours": "3"}, r"knn: no setting 'neighbours'; its settings are k, window"),
        ("no-change", {"k": "3"}, r"no-change: no setting 'k'; it has none"),
        ("driftmoe-data", {"seed": "3"}, r"no setting 'seed'.*n_experts"),
        ("driftmoe-data", {"variant": "task"}, r"no setting 'variant'"),
        ("driftmoe-data", {"vote": "true"}, r"driftmoe-data: no setting 'vote'; its settings are n_experts, top_k"),
        ("driftmoe-task", {"top_k": "2"}, r"driftmoe-task: no setting 'top_k'; its settings are hidden"),
        ("knn", {"k": "three"}, r"knn: k: 'three' is no whole number"),
        ("knn", {"k": "2.5"}, r"'2.5' is no whole number"),
        ("knn", {"window": "9" * 30}, r"window: '9+' is no whole number below"),
        ("softmax", {"learning_rate": "fast"}, r"'fast' is no number"),
        ("softmax", {"learning_rate": "nan"}, r"'nan' is no number"),
        ("softmax", {"learning_rate": "inf"}, r"'inf' is no number"),
        ("softmax", {"learning_rate": "-1"}, r"learning_rate -1.0"),
        ("knn", {"k": "0"}, r"k 0 must lie in"),
        ("driftmoe-task", {"vote": "maybe"}, r"vote: 'maybe'; choose one of true, yes"),
        ("driftmoe-data", {"top_k": "13"}, r"top_k 13"),
        ("driftmoe-data", {"hidden": "1"}, r"hidden: 1; the router's layers"),
        ("driftmoe-two-stage", {"burn_in": "1"}, r"burn_in 1 must lie between"),
        ("driftmoe-two-stage", {"variant": "both"}, r"variant: 'both'; choose one of data, task"),
        ("hoeffding-tree", {"leaf_prediction": "bayes"}, r"'bayes'; choose one of majority, naive-bayes, adaptive"),
        ("hoeffding-tree", {"delta": "2"}, r"delta 2.0"),
    ],
)
@pytest.mark.parametrize("schema", [SCHEMA, None], ids=["schema", "no schema"])
def test_what_does_not_fit_is_named(name: str, options: dict[str, str], said: str, schema: Schema | None) -> None:
    with pytest.raises(ConfigError, match=said):
        build_model(name, schema, options=options)


def test_a_stream_that_ends_in_the_first_stage_is_told_and_the_advice_helps() -> None:
    said = warning("driftmoe-two-stage", {}, 300)
    assert said is not None
    assert said.endswith("so the router learns nothing; give --set first_half=150 --set burn_in=75")
    advised = {"first_half": "150", "burn_in": "75"}
    build_model("driftmoe-two-stage", SCHEMA, options=advised)
    assert warning("driftmoe-two-stage", advised, 300) is None
    assert warning("driftmoe-two-stage", {}, 20_001) is None
    assert warning("knn", {}, 1) is None


def test_names_come_without_loading_torch_or_numba() -> None:
    code = (
        "import sys; from stream_moe.models.catalogue import model_names; model_names(); "
        "sys.exit(bool({'torch', 'numba', 'river'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
