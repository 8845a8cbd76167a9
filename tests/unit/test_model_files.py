"""A model in a file: as it was, with the types of its labels, and what is no such file."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river import naive_bayes

from stream_moe import (
    BlockClassifier,
    DriftMoE,
    DriftMoEData,
    build_model,
    restore_state,
    state_to_bytes,
)
from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.checkpoints.format import MAGIC, VERSION, digest
from stream_moe.errors import CheckpointError, ConfigError, DataError
from stream_moe.experts.foreign.river import RiverExpert
from stream_moe.experts.neighbours.knn import WindowKNN
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.single import SingleExpert
from stream_moe.types import Schema
from tests import golden
from tests.laws.cases import SCHEMA, mixed_stream

MODELS: dict[str, Callable[[Schema | None], BlockClassifier]] = {
    "driftmoe": lambda s: DriftMoE(s, trees=2, window=100, prototypes=8, budget=0.5, without="knn"),
    "driftmoe-data": lambda s: DriftMoEData(s, n_experts=2, top_k=1, threads=2),
    "driftmoe-task": lambda s: build_model("driftmoe-task", s, options={"vote": "true"}),
    "driftmoe-two-stage": lambda s: build_model(
        "driftmoe-two-stage", s, options={"variant": "task", "first_half": "50"}
    ),
    "knn": lambda s: build_model("knn", s, options={"k": "5"}),
    "hoeffding-tree": lambda s: build_model("hoeffding-tree", s),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_goes_on_as_if_it_had_never_been_in_a_file(name: str, tmp_path: Path) -> None:
    x, y = mixed_stream(200)
    model = MODELS[name](SCHEMA)
    model.learn_many(x[:150], y[:150])
    model.save(tmp_path / "it.model")
    again = BlockClassifier.load(tmp_path / "it.model")
    assert type(again) is type(model)
    assert again.learning_parameters() == model.learning_parameters()
    assert again.digest == model.digest
    assert np.array_equal(again.step(x[150:], y[150:]), model.step(x[150:], y[150:]))
    with pytest.raises(DataError, match="none of the schema's classes"):
        again.learn_one({"size": 1.0}, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["it.model"]


@pytest.mark.parametrize("name", ["driftmoe", "driftmoe-task", "knn"])
def test_a_model_of_dicts_grows_on(name: str, tmp_path: Path) -> None:
    model = MODELS[name](None)
    events: list[tuple[dict[Any, Any], Any]] = [({"a": 1.0, 2: "red"}, True), ({"a": 0.0, 2: "blue"}, False)]
    for x, y in events * 10:
        model.learn_one(x, y)
    model.save(tmp_path / "it.model")
    again = type(model).load(tmp_path / "it.model")
    for learner in (model, again):
        learner.learn_one({"a": 2.0, 2: "green", 1.5: 3}, False)
    assert again.schema == model.schema
    assert again.digest == model.digest
    assert repr(again) == repr(model)


@pytest.mark.parametrize("name", ["driftmoe", "driftmoe-data", "history-softmax", "target-encoding"])
def test_a_model_that_has_grown_predicts_as_one_that_was_never_in_a_file(name: str, tmp_path: Path) -> None:
    model, rng = build_model(name, None), np.random.default_rng(1)

    def event(t: int) -> tuple[dict[str, Any], str]:
        """A feature, a category and a class come in the middle, between those that are there."""
        x: dict[str, Any] = {"b": float(rng.normal()), "d": "red" if rng.random() < 0.5 or t < 40 else "blue"}
        x |= {"a": float(rng.normal())} if t >= 60 else {}
        return x, "yes" if x["b"] > 0 else "no" if t < 50 or rng.random() < 0.5 else "maybe"

    for t in range(90):
        model.learn_one(*event(t))
    model.save(tmp_path / "it.model")
    again = type(model).load(tmp_path / "it.model")
    for t in range(90, 130):
        x, y = event(t)
        assert again.predict_proba_one(x) == model.predict_proba_one(x)
        model.learn_one(x, y)
        again.learn_one(x, y)
    assert again.digest == model.digest


def test_a_refused_event_leaves_the_model_whole() -> None:
    model = build_model("naive-bayes", None)
    model.learn_one({"a": 1.0}, "x")
    model.learn_one({"a": 2.0}, "y")
    before, schema = model.digest, model.schema
    with pytest.raises(ConfigError, match="appears twice"):
        model.learn_one({1: 1.0, "1": 2.0}, "x")
    with pytest.raises(DataError, match="a list is no label"):
        model.learn_one({"b": 1.0}, ["x"])
    assert (model.digest, model.schema) == (before, schema)
    model.learn_one({"a": 1.0, "b": 2.0}, "z")
    assert sorted(model.predict_proba_one({"a": 1.0})) == ["x", "y", "z"]
    wrong = SingleExpert(expert=WindowKNN, parameters={"k": 0})
    for _ in range(2):
        with pytest.raises(ConfigError):
            wrong.learn_one({"a": 1.0}, "x")


@pytest.mark.parametrize("labels", [(True, False), (1, 2), ("1", "2"), (1.5, 2.5), (np.int64(1), np.int64(2))])
def test_labels_and_names_come_back_as_they_were(labels: tuple[Any, Any], tmp_path: Path) -> None:
    kept = [label.item() if isinstance(label, np.generic) else label for label in labels]
    for name in ("load", 3, 1.5, True):
        model = build_model("naive-bayes", None)
        for value, label in zip((0.1, 0.9, 0.2, 0.8), labels * 2, strict=True):
            model.learn_one({name: value}, label)
        model.save(tmp_path / "it.model")
        again, bare = SingleExpert.load(tmp_path / "it.model"), build_model("naive-bayes", None)
        restore_state(bare, state_to_bytes(model))
        texts = build_model("naive-bayes", model.schema)
        restore_state(texts, state_to_bytes(model))
        expected = model.predict_proba_one({name: 0.1})
        for learner in (again, bare, texts):
            found = learner.predict_proba_one({name: 0.1})
            assert found == expected
            assert list(map(type, found)) == list(map(type, kept))
        assert abs(expected[labels[0]] - 0.5) > 0.1  # the feature was seen


def test_a_model_for_each_key_is_one_file_too(tmp_path: Path) -> None:
    x, y = mixed_stream(200)
    model = KeyedLearner(SCHEMA, make=lambda s: build_model("naive-bayes", s), key_feature="colour", max_keys=9)
    model.step(x, y)
    model.save(tmp_path / "it.model")
    again = KeyedLearner.load(tmp_path / "it.model")
    assert again.digest == model.digest
    assert np.array_equal(again.step(x, y), model.step(x, y))


class OwnExpert(RiverExpert):
    pass


def test_what_cannot_be_kept_is_one_line(tmp_path: Path) -> None:
    own = SingleExpert(expert=OwnExpert, parameters={"model": naive_bayes.GaussianNB()})
    for model in (own, build_model("river:GaussianNB", None)):
        model.learn_one({"a": 1.0}, "x")
        with pytest.raises(ConfigError, match=r"a model of \w+ cannot be made again from a file") as caught:
            model.save(tmp_path / "it.model")
        assert "\n" not in str(caught.value)
    odd = build_model("naive-bayes", None)
    odd.learn_one({"a": 1.0}, ("x", 1))
    with pytest.raises(DataError, match=r"label \('x', 1\): a tuple cannot be kept"):
        odd.save(tmp_path / "it.model")
    with pytest.raises(CheckpointError, match=r"no/it\.model: not written: No such file or directory"):
        DriftMoE(SCHEMA, trees=1).save(tmp_path / "no" / "it.model")
    with pytest.raises(ConfigError, match="the model has no schema yet"):
        DriftMoE(seed=1).save(tmp_path / "it.model")
    assert list(tmp_path.iterdir()) == []


def test_a_class_of_ones_own_is_loaded_by_its_own_load(tmp_path: Path) -> None:
    class Ours(DriftMoE):
        pass

    Ours(SCHEMA, trees=1).save(tmp_path / "it.model")
    assert type(Ours.load(tmp_path / "it.model")) is Ours
    with pytest.raises(CheckpointError, match=r"holds a Ours, which is no model of stream_moe; use Ours\.load"):
        DriftMoE.load(tmp_path / "it.model")


def test_load_says_what_a_file_is_that_holds_no_model(tmp_path: Path) -> None:
    path = tmp_path / "it"
    with zipfile.ZipFile(tmp_path / "zip", "w") as archive:
        archive.writestr("a", "b")
    model = build_model("naive-bayes", SCHEMA)
    model.save(path)
    whole = path.read_bytes()
    head = MAGIC + (VERSION + 1).to_bytes(4, "big")
    state = Checkpoint.from_bytes(whole)
    state.plain.pop("model")
    for content, why in {
        b"id,x,y\n1,2,3\n": "a text file that begins with 'id,x,y",
        b"\x80\x05K\x01.": "a pickle, which is never opened",
        (tmp_path / "zip").read_bytes(): "a zip archive",
        b"": "an empty file",
        bytes(range(128, 255)): "a pickle|a file that begins with",
        (golden.HERE / "version-5.ckpt").read_bytes(): "a daemon's checkpoint, at offset 3,000 of golden/events/0",
        state.to_bytes(): "a state as bytes, which does not say how to make its model",
        whole[:-1]: "damaged or cut off",
        head + digest(VERSION + 1, head, b"new") + b"new": f"format version {VERSION + 1}",
    }.items():
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=why) as caught:
            BlockClassifier.load(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"holds a SingleExpert, and this is DriftMoE\.load; use SingleExpert"):
        DriftMoE.load(path)
    with pytest.raises(CheckpointError, match="No such file"):
        DriftMoE.load(tmp_path / "nothing")


def test_a_file_holds_plain_values_alone(tmp_path: Path) -> None:
    model = MODELS["driftmoe"](SCHEMA)
    model.save(tmp_path / "it.model")
    kept = Checkpoint.from_bytes((tmp_path / "it.model").read_bytes()).plain["model"]
    assert json.loads(json.dumps(kept)) == kept
    assert kept["name"] == "DriftMoE"
    assert kept["parameters"]["without"] == "knn"


def test_restoring_without_a_schema_is_one_line() -> None:
    snapshot = DriftMoE(SCHEMA, trees=1).snapshot()
    with pytest.raises(ConfigError, match="the model has no schema yet; give schema"):
        DriftMoE(seed=1).restore(snapshot)
