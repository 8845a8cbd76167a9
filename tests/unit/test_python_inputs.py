"""What Python users bring: dicts with any values, frames, labels of any kind, threads."""

from __future__ import annotations

import datetime as dt
import threading
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest
from river import metrics, preprocessing

from stream_moe import DriftMoE, Feature, Schema, build_model
from stream_moe.errors import ConfigError, DataError
from stream_moe.models.contract import BlockClassifier
from stream_moe.rows import MAX_CATEGORIES

NAMES = ["hoeffding-tree", "naive-bayes", "driftmoe-data"]


class Colour(str, Enum):  # noqa: UP042  # as people still write them
    RED = "red"


def model(schema: Schema | None = None, name: str = "naive-bayes") -> BlockClassifier:
    return build_model(name, schema, seed=1)


@pytest.mark.parametrize("labels", [(0, 1), (False, True), ("0", "1"), (0.0, 1.0)])
@pytest.mark.parametrize("name", NAMES)
def test_answers_compare_equal_to_the_labels_that_were_given(name: str, labels: tuple[Any, Any]) -> None:
    learner, right = model(Schema.numeric(1, ["0", "1"]), name), metrics.Accuracy()
    for i in range(200):
        x, y = {"x0": float(i % 2)}, labels[i % 2]
        right.update(y, learner.predict_one(x))
        learner.learn_one(x, y)
    assert right.get() > 0.95
    assert list(learner.predict_proba_one({"x0": 1.0})) == list(labels)


def test_a_frame_is_read_by_name() -> None:
    schema = Schema((Feature("a"), Feature("b", ("u", "v"))), ("no", "yes"))
    frame = pd.DataFrame({"other": [1, 2, 3], "b": ["v", "u", None], "a": [1.5, 2.5, np.nan]})
    x = np.array([[1.5, 1], [2.5, 0], [np.nan, np.nan]], np.float32)
    by_name, by_place = model(schema), model(schema)
    by_name.learn_many(frame, pd.Series(["yes", "no", "no"]))
    by_place.learn_many(x, np.array([1, 0, 0], np.int32))
    assert by_name.digest == by_place.digest
    np.testing.assert_array_equal(by_name.predict_proba_many(frame).to_numpy(), by_place.predict_proba_many(x))
    answers = by_name.predict_many(frame)
    assert answers.index.equals(frame.index)
    assert set(answers) <= {"no", "yes"}
    absent = by_name.predict_proba_many(frame[["b"]])
    right = by_place.predict_proba_many(np.array([[np.nan, 1], [np.nan, 0], [np.nan, np.nan]], np.float32))
    np.testing.assert_array_equal(absent.to_numpy(), right)
    with pytest.raises(DataError, match="2 columns are called 'a'"):
        by_name.learn_many(pd.DataFrame([[1, 2]], columns=["a", "a"]), ["no"])


@pytest.mark.parametrize(
    ("classes", "labels", "indices"),
    [
        (("False", "True"), pd.Series([True, False]), [1, 0]),
        (("1", "2", "3"), pd.Series([1, 3]), [0, 2]),
        (("1", "2", "3"), np.array([1.0, 3.0]), [0, 2]),
        (("0.3", "0.7"), pd.Series([0.7, 0.3]), [1, 0]),
        (("no", "yes"), np.array(["yes", "no"]), [1, 0]),
        (("no", "yes"), ["yes", "no"], [1, 0]),
    ],
)
def test_labels_of_many_events_are_matched_by_value(classes: Any, labels: Any, indices: list[int]) -> None:
    schema, x = Schema.numeric(1, classes), np.array([[1.0], [2.0]], np.float32)
    by_value, by_index = model(schema), model(schema)
    by_value.learn_many(x, labels)
    by_index.learn_many(x, np.array(indices, np.int32))
    assert by_value.digest == by_index.digest
    before = by_value.digest
    for wrong in (pd.Series([7.25, 1]), pd.Series(["?!", classes[0]]), np.array([0.25, 0.3])):
        with pytest.raises(DataError, match="none of the schema's classes"):
            by_value.learn_many(x, wrong)
    assert by_value.digest == before


@pytest.mark.parametrize("label", [None, float("nan"), pd.NA, np.nan, "NA", ""])
def test_a_missing_label_teaches_nothing(label: Any, caplog: pytest.LogCaptureFixture) -> None:
    learner = model()
    learner.learn_one({"a": 1.0}, "x")
    before = learner.digest
    for _ in range(3):
        learner.learn_one({"a": 2.0, "new": 1}, label)
    assert (learner.digest, learner.schema.classes) == (before, ("x",))
    assert sum("is missing: nothing is learnt" in record.getMessage() for record in caplog.records) == 1


@pytest.mark.parametrize("first", [None, float("nan"), "", "?", "NA", pd.NA])
def test_the_first_real_value_decides_what_a_feature_is(first: Any) -> None:
    learner = model()
    learner.learn_one({"a": first, "b": first}, "x")
    learner.learn_one({"a": 1.5, "b": "red"}, "y")
    assert learner.schema.features == (Feature("a"), Feature("b", ("red",)))


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (Decimal("1.5"), 1.5),
        (Fraction(1, 4), 0.25),
        (np.array(2.5), 2.5),
        (np.float32(0.5), 0.5),
        (dt.timedelta(minutes=1), 60.0),
        (dt.date(1970, 1, 2), 86400.0),
        (pd.Timestamp("1970-01-01 00:00:10"), 10.0),
        (np.datetime64("1970-01-01T00:00:07"), 7.0),
        ("2.5", 2.5),
        ("1970-01-01T00:01:00", 60.0),
        (True, 1.0),
    ],
)
def test_values_that_are_numbers(value: Any, number: float) -> None:
    learner = model()
    learner.learn_one({"a": 1.0}, "x")
    assert learner._rows.encode_known({"a": value}).tolist() == [[number]]


def test_large_numbers_are_kept_apart() -> None:
    learner = model()
    learner.learn_one({"ms": 1_700_000_000_000}, "x")
    assert learner._rows.encode_known({"ms": 1_700_000_000_007}).tolist() == [[7.0]]


@pytest.mark.parametrize("name", [("the", "word"), 7, 1.5, True])
def test_names_that_are_no_text(name: Any) -> None:
    learner = model()
    learner.learn_one({name: 1.0}, "x")
    assert learner._rows.encode_known({name: 2.0}).tolist() == [[2.0]]
    given = model(Schema((Feature(str(name)),), ("x",)))
    assert given._rows.encode_known({name: 2.0}).tolist() == [[2.0]]


def test_members_of_an_enumeration_are_their_values() -> None:
    learner = model()
    learner.learn_one({"c": Colour.RED}, "x")
    assert learner.schema.features == (Feature("c", ("red",)),)
    assert learner._rows.encode_known({"c": "red"}).tolist() == learner._rows.encode_known({"c": Colour.RED}).tolist()


def test_a_bound_of_categories_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    learner = model()
    for i in range(MAX_CATEGORIES + 5):
        learner.learn_one({"a": f"v{i}"}, "x")
    told = [record.getMessage() for record in caplog.records if "categories already" in record.getMessage()]
    assert len(told) == 1
    assert len(learner.schema.features[0].categories or ()) == MAX_CATEGORIES


def test_a_value_of_no_use_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    learner = model()
    learner.learn_one({"a": 1.0, "b": [1, 2]}, "x")
    learner.learn_one({"a": "tall", "b": [1, 2]}, "x")
    learner.learn_one({"a": "tall", "b": [1, 2]}, "x")
    assert len(caplog.records) == 2
    assert learner.schema.features == (Feature("a"),)


@pytest.mark.parametrize("pair", [(1, "1"), (True, "true"), (1, 1.0)])
def test_equal_labels_are_one_class(pair: tuple[Any, Any]) -> None:
    learner = model()
    for label in pair:
        learner.learn_one({"a": 1.0}, label)
        assert learner.predict_one({"a": 1.0}) == pair[0]
    assert learner.schema.n_classes == 1


def test_a_refused_event_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = model()
    learner.learn_one({"a": 1.0}, "x")
    before, schema = learner.digest, learner.schema

    def fail(schema: Schema) -> None:
        raise DataError("no room")

    monkeypatch.setattr(learner, "_grow", fail)
    with pytest.raises(DataError, match="no room"):
        learner.learn_one({"a": 1.0, "b": 2.0}, "y")
    assert (learner.digest, learner.schema) == (before, schema)
    assert learner.predict_one({"a": 1.0}) == "x"
    monkeypatch.undo()
    learner.learn_one({"a": 1.0, "b": 2.0}, "y")
    assert learner.schema.n_features == 2


def frames() -> list[tuple[pd.DataFrame, pd.Series]]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(5):
        frame = pd.DataFrame({"a": rng.normal(size=40), "b": rng.normal(size=40)})
        found.append((frame, frame["a"] > 0))
    return found


def test_a_pipeline_of_river_takes_frames() -> None:
    pipeline = preprocessing.StandardScaler() | model()
    right: list[float] = []
    for frame, y in frames():
        right.append((pipeline.predict_many(frame) == y).mean() if right else 0.0)
        pipeline.learn_many(frame, y)
    assert np.mean(right[1:]) > 0.9
    proba = pipeline.predict_proba_many(frames()[0][0])
    assert sorted(map(str, proba.columns)) == ["False", "True"]


def test_a_frame_without_a_schema_is_learnt_as_its_events_are() -> None:
    frame = pd.DataFrame(
        {"a": [1.5, 2.5, np.nan, 4.0, 1.0], "b": ["u", "v", "u", None, "w"], "c": [None, None, 3, 4, 5]}
    )
    y = ["x", "y", "x", "y", "z"]
    many, one = model(), model()
    many.learn_many(frame, y)
    for t, label in enumerate(y):
        one.learn_one({name: frame[name].to_list()[t] for name in frame.columns}, label)
    assert many.schema == one.schema
    assert many.digest == one.digest


def test_polars_is_read_like_pandas() -> None:
    pl = pytest.importorskip("polars", reason="polars is not installed")
    frame = pl.DataFrame({"b": ["u", None], "a": [1.5, 2.5]})
    schema = Schema((Feature("a"), Feature("b", ("u",))), ("x", "y"))
    learner, right = model(schema), model(schema)
    learner.learn_many(frame, pl.Series(["y", "x"]))
    right.learn_many(np.array([[1.5, 0], [2.5, np.nan]], np.float32), np.array([1, 0]))
    assert learner.digest == right.digest
    assert learner.predict_many(frame).tolist() == ["y", "x"]


def test_one_thread_learns_while_others_predict() -> None:
    """New classes and features come meanwhile: arrays are given up that a prediction may be reading."""
    learner, done = DriftMoE(seed=1), threading.Event()
    learner.learn_one({"a": 0.5}, "c0")
    failed: list[BaseException] = []

    def predict() -> None:
        try:
            while not done.is_set():
                assert learner.predict_proba_one({"a": 0.5})
                learner.predict_one({"a": 0.5, "f3": 1.0})
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=predict) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(40):
        learner.learn_one({"a": i / 40, f"f{i % 5}": 1.0}, f"c{i % 9}")
    done.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert learner.schema.n_classes == 9


def test_a_list_of_dicts_is_a_frame() -> None:
    schema = Schema((Feature("a"), Feature("b", ("u", "v"))), ("no", "yes"))
    events: list[dict[Any, Any]] = [{"b": "v", "a": 1.5}, {"a": 2.5, "other": 1}]
    labels = ["yes", "no"]
    listed, framed = model(schema), model(schema)
    listed.learn_many(events, labels)
    framed.learn_many(pd.DataFrame(events), labels)
    assert listed.digest == framed.digest
    assert listed.predict_many(events).tolist() == framed.predict_many(pd.DataFrame(events)).tolist()
    grown, one_by_one = model(), model()
    grown.learn_many(events, labels)
    for event, label in zip(events, labels, strict=True):
        one_by_one.learn_one(event, label)
    assert grown.digest == one_by_one.digest


@pytest.mark.parametrize("x", [[1, 2], "abc", None, 3.0])
def test_an_event_without_names_is_refused(x: Any) -> None:
    for learner in (model(), model(Schema.numeric(2, ["u", "v"]))):
        with pytest.raises(DataError, match="give a dict of values by feature name"):
            learner.learn_one(x, "u")


@pytest.mark.parametrize("x", [np.array([[1, "red"]], object), (i for i in range(2)), np.array([(1, "x")], "f4,U3")])
def test_a_table_of_other_than_numbers_is_refused(x: Any) -> None:
    with pytest.raises(DataError, match=r"no table of numbers .* a frame or a list of dicts"):
        model(Schema.numeric(2, ["u", "v"])).predict_many(x)


def test_names_of_a_schema_are_texts() -> None:
    wrong: list[tuple[Any, Any, Any]] = [("a", None, (0, 1)), ("a", (1, 2), ("u",)), (1, None, ("u",))]
    for name, categories, classes in wrong:
        with pytest.raises(ConfigError, match=r"is no text; names are texts: '[01]'"):
            Schema((Feature(name, categories),), classes)
