"""Events that count more than others in learning: `w` of single events, and weights of classes."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river import datasets

from stream_moe import BlockClassifier, DriftMoE, KeyedLearner, SingleExpert, build_model
from stream_moe.errors import ConfigError, DataError
from stream_moe.experts.kinds import KINDS
from stream_moe.streams import open_stream
from stream_moe.types import Schema
from tests.unit.test_engine import BLOCK, STREAM

X, Y = BLOCK.x[:1500], BLOCK.y[:1500]
NAMES = ["driftmoe", "naive-bayes", "hoeffding-tree", "softmax"]


def model(name: str, **more: Any) -> BlockClassifier:
    return build_model(name, STREAM.schema, **more)


@pytest.mark.parametrize("name", NAMES)
def test_a_weight_of_one_changes_no_bit(name: str) -> None:
    plain, weighed, classes = model(name), model(name), model(name, class_weight={"UP": 1.0, "DOWN": 1.0})
    proba = plain.step(X, Y)
    assert weighed.step(X, Y, w=np.ones(len(X))).tobytes() == proba.tobytes()
    assert classes.step(X, Y).tobytes() == proba.tobytes()
    assert plain.digest == weighed.digest == classes.digest


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_classes_are_weights_of_their_events(name: str) -> None:
    by_class, by_event = model(name, class_weight={"UP": 3.0}), model(name)
    assert by_class.step(X, Y).tobytes() == by_event.step(X, Y, w=np.where(Y == 1, 3.0, 1.0)).tobytes()
    assert by_class.digest == by_event.digest != model_after(name).digest


def model_after(name: str) -> BlockClassifier:
    found = model(name)
    found.step(X, Y)
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rows", [1, 7, 256])
def test_weights_do_not_depend_on_blocks(name: str, rows: int) -> None:
    w = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 4.0, 50.0], len(X))
    whole, parts = model(name), model(name)
    proba = whole.step(X, Y, w=w)
    n = 300 if rows == 1 else len(X)
    found = [parts.step(X[s : s + rows], Y[s : s + rows], w=w[s : s + rows]) for s in range(0, n, rows)]
    assert np.concatenate(found).tobytes() == proba[:n].tobytes()
    if n == len(X):
        assert whole.digest == parts.digest
    assert np.isfinite(proba).all()


def test_a_large_weight_leaves_probabilities() -> None:
    heavy = model("driftmoe", class_weight={"UP": 1e6})
    proba = heavy.step(X, Y)
    assert np.isfinite(proba).all()
    assert proba.sum(1) == pytest.approx(1)


@pytest.mark.parametrize("name", NAMES)
def test_an_event_of_no_weight_is_not_learnt(name: str) -> None:
    w = (np.arange(len(X)) % 3 > 0).astype(np.float64)
    some, fewer = model(name), model(name)
    some.step(X, Y, w=w)
    fewer.step(X, np.where(w > 0, Y, -1).astype(np.int32))
    assert some.digest == fewer.digest


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_of_expert_takes_weights(kind: str) -> None:
    expert = model(kind, class_weight={"UP": 5.0})
    proba = expert.step(X, Y)
    assert np.isfinite(proba).all()


def test_one_event_at_a_time_as_river_has_it() -> None:
    one, many, plain = DriftMoE(seed=1), DriftMoE(seed=1), DriftMoE(seed=1)
    events = list(datasets.Phishing().take(200))
    for t, (x, y) in enumerate(events):
        one.learn_one(x, y, w=2.0 if t % 2 else 1.0)
        many.learn_one(x, y, 2.0 if t % 2 else 1.0)
        plain.learn_one(x, y)
    assert one.digest == many.digest != plain.digest


def test_frames_take_weights() -> None:
    import pandas as pd  # type: ignore[import-untyped]

    frame = pd.DataFrame(X[:300], columns=[f.name for f in STREAM.schema.features])
    labels = pd.Series([STREAM.schema.classes[c] for c in Y[:300]])
    w = np.where(Y[:300] == 1, 3.0, 1.0)
    with_schema, rows = model("naive-bayes"), model("naive-bayes")
    with_schema.learn_many(frame, labels, w=w)
    rows.step(X[:300], Y[:300], w=w)
    assert with_schema.digest == rows.digest
    grown, one = (build_model("naive-bayes", None) for _ in range(2))
    grown.learn_many(frame, labels, w=w)
    for event, label, weight in zip(frame.to_dict("records"), labels, w.tolist(), strict=True):
        one.learn_one(event, label, weight)
    assert grown.digest == one.digest


def test_late_labels_have_the_weight_of_their_class() -> None:
    heavy, plain = model("driftmoe", class_weight={"UP": 4.0}), model("driftmoe")
    for each in (heavy, plain):
        tickets, _ = each.predict_tickets(X[:200])
        each.learn_many(
            X[:200], Y[:200], tickets=tickets, w=None if each is heavy else np.where(Y[:200] == 1, 4.0, 1.0)
        )
    assert heavy.digest == plain.digest


def test_a_class_that_comes_later_gets_its_weight() -> None:
    heavy, plain = (DriftMoE(seed=1, class_weight=weights) for weights in ({True: 3}, None))
    for x, y in datasets.Phishing().take(100):
        heavy.learn_one(x, y)
        plain.learn_one(x, y, 3 if y else 1)
    assert heavy.digest == plain.digest


def test_weights_are_kept_and_are_part_of_what_a_model_is(tmp_path: Path) -> None:
    heavy = model("driftmoe", class_weight={"UP": 3.0})
    heavy.step(X[:100], Y[:100])
    assert heavy.learning_parameters()["class_weight"] == {"UP": 3.0}
    assert "class_weight" not in model("driftmoe").learning_parameters()
    heavy.save(tmp_path / "model")
    copies: list[Any] = [BlockClassifier.load(tmp_path / "model"), copy.deepcopy(heavy)]
    heavy.step(X[100:300], Y[100:300])
    for again in copies:
        again.step(X[100:300], Y[100:300])
        assert again.digest == heavy.digest
    assert heavy.clone().class_weight == {"UP": 3.0}
    assert "class_weight={'UP': 3.0}" in repr(heavy)


def test_a_model_for_each_key_has_the_weights() -> None:
    def make(weights: dict[str, float] | None) -> KeyedLearner:
        return KeyedLearner(
            STREAM.schema, make=lambda schema: build_model("naive-bayes", schema, class_weight=weights)
        )

    keys = [b"a" if t % 2 else b"b" for t in range(300)]
    plain, heavy = make(None), make({"UP": 3.0})
    for each in (plain, heavy):
        each.step(X[:300], Y[:300], keys=keys)
    assert plain.digest != heavy.digest
    assert heavy.learning_parameters()["class_weight"] == {"UP": 3.0}
    with pytest.raises(ConfigError, match="with a model for each key"):
        plain.step(X[:2], Y[:2], keys=keys[:2], w=np.ones(2))


@pytest.mark.parametrize("weights", [{"UP": -1}, {"UP": float("nan")}, {"UP": True}, {"UP": "3"}, {"UP": 1e7}])
def test_a_wrong_weight_of_a_class_is_refused(weights: Any) -> None:
    for make in (DriftMoE, SingleExpert):
        with pytest.raises(ConfigError, match="a weight is a number from 0"):
            make(class_weight=weights)


@pytest.mark.parametrize("w", [-1.0, float("nan"), 1e7, [1.0, 2.0]])
def test_a_wrong_weight_of_an_event_is_refused_and_nothing_learnt(w: Any) -> None:
    found = model_after("naive-bayes")
    before = found.digest
    with pytest.raises(DataError, match="give each a number from 0"):
        found.step(X[:3], Y[:3], w=np.asarray(w))
    assert found.digest == before


def test_learners_that_cannot_say_so() -> None:
    published = build_model("driftmoe-data", Schema.numeric(2, ["no", "yes"]))
    with pytest.raises(ConfigError, match="DriftMoEData: its events all count the same"):
        published.step(np.zeros((1, 2), np.float32), np.zeros(1, np.int32), w=np.array([2.0]))


def test_a_rare_class_is_found_more_often_the_more_it_weighs() -> None:
    block = next(open_stream("rbf_f", seed=1).blocks(6000))
    y = np.where((block.y == 1) & (np.arange(6000) % 4 == 0), 1, 0).astype(np.int32)
    schema = Schema.numeric(block.x.shape[1], ["fair", "fraud"])
    recalls = []
    for weight in (1.0, 20.0):
        answers = build_model("driftmoe", schema, class_weight={"fraud": weight}).step(block.x, y).argmax(1)
        recalls.append((answers[y == 1] == 1).mean())
    assert recalls[1] > recalls[0] + 0.05
