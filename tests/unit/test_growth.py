"""A schema that is learnt from the first records, and grows at a position of the log."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.files import FileCheckpointStore
from connectors.memory import (
    ABORT,
    EOF,
    MemoryLog,
    MemoryReader,
    MemorySink,
    MemorySource,
    Record,
    SimulatedCrashError,
)
from stream_moe.engine.codec import schema_header
from stream_moe.engine.journal import JournaledSource
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.engine.records.growth import MOST_CLASSES, MOST_FEATURES
from stream_moe.engine.records.mapping import FieldMapping
from stream_moe.errors import CheckpointError, ConfigError, LogError
from stream_moe.models.catalogue import build_model
from stream_moe.ports import Source
from stream_moe.types import Feature, Schema

MAPPING = FieldMapping("order", "fraud")
EVENTS = 900
COUNTRIES = ["DE", "FR", "IT", "ES"]


def orders(n: int = EVENTS, seed: int = 1) -> list[dict[str, Any]]:
    """A shop's orders: from 300 on with a coupon, from 450 on to a fourth country, from 600 on of a third class."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        amount, country = round(float(rng.random()), 3), COUNTRIES[int(rng.integers(4 if i >= 450 else 3))]
        order = {"order": f"o{i}", "amount": amount, "country": country, "fraud": "yes" if amount > 0.7 else "no"}
        if i >= 300 and i % 3:
            order["coupon"] = int(rng.integers(5))
        if i >= 600 and amount < 0.1:
            order["fraud"] = "unsure"
        found.append(order)
    return found


def filled(plain: list[dict[str, Any]], abort: int | None = None, headers: Any = ()) -> MemoryLog:
    log = MemoryLog()
    for i, order in enumerate(plain):
        if i == abort:
            log.append("events", ABORT)
        log.append("events", Record(json.dumps(order).encode(), str(i).encode(), i, headers if i == 0 else ()))
    log.append("events", EOF)
    return log


def engine_on(
    log: MemoryLog,
    state: Path,
    model: str = "driftmoe",
    *,
    schema: Schema | None = None,
    source: Source | None = None,
    **options: Any,
) -> Engine:
    given: dict[str, Any] = {"mapping": MAPPING, "block_rows": 100, "checkpoint_events": 200, **options}
    return Engine(
        source or MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group", journal=None if source is None else "journal"),
        lambda partition: FileCheckpointStore(state / str(partition)),
        lambda schema: build_model(model, schema),
        EngineSettings(model, **given),
        schema=schema,
    )


def ran(log: MemoryLog, state: Path, **options: Any) -> Engine:
    engine = engine_on(log, state, **options)
    engine.run()
    return engine


def predictions(log: MemoryLog) -> list[dict[str, Any]]:
    return [json.loads(record.value or b"") for record in log.records("predictions")]


def test_the_schema_is_learnt_and_grows_where_something_new_appears(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        engine = ran(log := filled(orders()), tmp_path)
    schema = engine.tasks[0].learner.schema
    assert [(f.name, f.is_nominal) for f in schema.features] == [
        ("amount", False),
        ("country", True),
        ("coupon", False),
    ]
    assert schema.features[1].categories == ("DE", "FR", "IT", "ES")
    assert schema.classes == ("no", "yes", "unsure")
    said = predictions(log)
    assert len(said) == EVENTS
    first = next(i for i, order in enumerate(orders()) if order["fraud"] == "unsure")
    assert [len(each["proba"]) for each in said] == [2] * first + [3] * (EVENTS - first)
    for line in (
        "schema learnt from the first 100 records: 2 features (amount, country of 3 categories), classes no, yes",
        "understood: offset 0: id 'o0', label 'no', time 1970-01-01T00:00:00Z; amount=",
        "offset 301: new features taken in, of which there are now 3: 'coupon' (a number)",
        "new categories taken in: 'ES' of 'country'",
        f"offset {first}: new classes taken in, of which there are now 3: 'unsure'",
    ):
        assert line in caplog.text
    inputs = engine.tasks[0].report(engine_block(), "").inputs
    assert inputs is not None
    assert inputs.grown == {"feature": 1, "category": 1, "class": 1}


def engine_block() -> Any:
    from stream_moe.engine.blocks import BlockReport

    return BlockReport()


@pytest.mark.parametrize(
    "model", ["driftmoe", "driftmoe-data", "driftmoe-task", "hoeffding-tree", "adaptive-tree", "knn"]
)
def test_blocks_and_crashes_change_nothing_of_what_is_learnt(model: str, tmp_path: Path) -> None:
    """Killed before, in and after each growth; with checkpoints of each kind, and with none."""
    right = ran(log := filled(orders()), tmp_path / "right", model=model)
    digest, said = right.digests()[0], predictions(log)
    state = right.tasks[0].learnt.parts()
    for rows in (1, 7, 1000):
        if rows > 1 or model == "hoeffding-tree":
            again = ran(other := filled(orders()), tmp_path / f"rows{rows}", model=model, block_rows=rows)
            assert again.digests()[0] == digest
            assert predictions(other) == said
    for abort in (150, 301, 450, 700):
        log = filled(orders(), abort)
        where = tmp_path / f"abort{abort}"
        with pytest.raises(SimulatedCrashError):
            ran(log, where, model=model)
        if abort == 700:  # all must be learnt again, the schema too
            for file in where.rglob("*.ckpt"):
                file.unlink()
        again = ran(log, where, model=model, block_rows=70)
        assert again.digests()[0] == digest
        assert predictions(log) == said
        parts = again.tasks[0].learnt.parts()
        assert parts["counts"] == state["counts"]
        for name in ("watch", "inputs", "quality", "join"):
            assert parts[name][1] == state[name][1]
            for array in state[name][0]:
                assert np.array_equal(parts[name][0][array], state[name][0][array], equal_nan=True), (name, array)


def test_late_labels_of_a_new_class_meet_events_that_wait(tmp_path: Path) -> None:
    plain: list[dict[str, Any]] = []
    for i, order in enumerate(orders()):
        plain.append({name: value for name, value in order.items() if name != "fraud"})
        if i >= 50:
            late = orders()[i - 50]
            plain.append({"order": late["order"], "fraud": late["fraud"]})
    digests = set()
    for rows, abort in ((300, None), (70, 1300)):
        log = filled(plain, abort)
        if abort is not None:
            with pytest.raises(SimulatedCrashError):
                ran(log, tmp_path / str(rows), block_rows=rows)
        engine = ran(log, tmp_path / str(rows), block_rows=rows)
        assert engine.tasks[0].learner.schema.classes == ("no", "yes", "unsure")
        assert engine.tasks[0].learnt.join.counts.applied == EVENTS - 50
        digests.add((engine.digests()[0], str(predictions(log))))
    assert len(digests) == 1


@pytest.mark.parametrize("unknown", ["ignore", "dead-letter", "grow"])
def test_what_is_unknown_goes_by_the_policy(unknown: str, tmp_path: Path) -> None:
    schema = Schema((Feature("amount"), Feature("country", ("DE", "FR", "IT"))), ("no", "yes"))
    engine = ran(log := filled(orders()), tmp_path, schema=schema, unknown=unknown)
    dead = dict(engine.tasks[0].learnt.counts.dead)
    new = [order for order in orders() if order["fraud"] == "unsure"]
    if unknown == "grow":
        assert (dead, engine.tasks[0].learner.schema.n_features) == ({}, 3)
        return
    assert engine.tasks[0].learner.schema == schema
    coupons = [order for order in orders() if "coupon" in order]
    if unknown == "ignore":
        assert dead == {"unknown-class": len(new)}
        inputs = engine.tasks[0].learnt.inputs
        assert inputs.names == {"coupon": len(coupons)}
        assert inputs.categories[1] == sum(order["country"] == "ES" for order in orders() if order not in new)
    else:
        spanish = [order for order in orders() if order["country"] == "ES" and "coupon" not in order]
        left = [order for order in new if order not in coupons and order not in spanish]
        assert dead == {
            "unknown-feature": sum(order["country"] != "ES" for order in coupons),
            "unknown-category": sum(order["country"] == "ES" for order in orders()),
            "unknown-class": len(left),
        }
    assert len(log.records("dead-letters")) == sum(dead.values())


def test_a_schema_that_a_producer_wrote_stays_unless_growth_is_asked_for(tmp_path: Path) -> None:
    schema = Schema.numeric(1, ["no", "yes"], ["a"])
    plain = [{"id": str(i), "x": {"a": i % 2, "b": 1}, "y": ("no", "yes")[i % 2]} for i in range(50)]
    for unknown, features in ((None, 1), ("grow", 2)):
        log = filled(plain, headers=(schema_header(schema),))
        engine = ran(log, tmp_path / str(unknown), mapping=None, unknown=unknown)
        assert engine.tasks[0].learner.schema.n_features == features
        assert engine.tasks[0].learnt.inputs.names == ({"b": 50} if unknown is None else {})


@pytest.mark.parametrize("form", ["array", "object", "beside"])
def test_records_in_the_form_of_old_need_no_header(form: str, tmp_path: Path) -> None:
    plain = []
    for i in range(200):
        x = [i % 2, "red" if i % 3 else "blue"]
        event = {"id": str(i), "y": ("no", "yes")[i % 2]}
        named = {"size": x[0], "colour": x[1]}
        plain.append(event | ({"x": x} if form == "array" else {"x": named} if form == "object" else named))
    engine = ran(log := filled(plain), tmp_path, mapping=None)
    schema = engine.tasks[0].learner.schema
    assert sorted(f.name for f in schema.features) == (["x0", "x1"] if form == "array" else ["colour", "size"])
    assert (len(predictions(log)), dict(engine.tasks[0].learnt.counts.dead)) == (200, {})


def test_each_partition_learns_its_own_schema_and_an_empty_one_is_left(tmp_path: Path) -> None:
    log = filled(orders(200))
    log.extend("events", [*(json.dumps(o | {"extra": 1}).encode() for o in orders(200, 2)), EOF], 1)
    log.create("events", 3)
    log.append("events", EOF, 2)
    engine = ran(log, tmp_path, until_caught_up=True)
    found = {p: task.learner.schema.n_features for p, task in engine.tasks.items() if task.state != "starting"}
    assert found == {0: 2, 1: 3}


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        (orders(60), "ends with 60 of the 100 records from which the schema is learnt; give --schema"),
        ([{**o, "fraud": None} for o in orders(150)], "ends with 150 records, and no label among them"),
        ([{"order": "a"}] * 150, "ends with 150 records, and none has a value of a feature"),
        ([], "is empty"),
    ],
)
def test_a_log_that_holds_too_little_to_learn_a_schema_is_one_line(
    plain: list[dict[str, Any]], message: str, tmp_path: Path
) -> None:
    log = filled(plain)
    log.create("events", 1)
    with pytest.raises(LogError, match=message):
        ran(log, tmp_path)


def test_a_number_to_predict_is_no_class(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'amount' has more than 256 values in [0-9]+ records"):
        ran(filled(orders()), tmp_path, mapping=FieldMapping("order", "amount"), schema_records=800)


def test_a_schema_is_not_learnt_where_nothing_may_be_taken_in(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no schema header .* --unknown ignore takes nothing from the records"):
        ran(filled(orders()), tmp_path, unknown="ignore")


def test_ten_thousand_new_features_are_bounded_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = orders(120)
    for i, order in enumerate(plain[110:]):
        order |= {f"n{i * 1000 + j}": j for j in range(1000)}
    with caplog.at_level(logging.INFO):
        engine = ran(log := filled(plain), tmp_path, model="hoeffding-tree")
    assert engine.tasks[0].learner.schema.n_features == MOST_FEATURES
    inputs = engine.tasks[0].learnt.inputs
    assert sum(inputs.names.values()) + inputs.others == 10_000 + 2 - MOST_FEATURES
    assert (len(predictions(log)), dict(engine.tasks[0].learnt.counts.dead)) == (120, {})
    assert "taken in, of which there are now 512" in caplog.text


def test_classes_and_categories_are_bounded(tmp_path: Path) -> None:
    plain = [{"order": i, "ref": f"r{i}", "fraud": "no" if i < 100 else f"c{i}"} for i in range(1300)]
    engine = ran(filled(plain), tmp_path, model="naive-bayes")
    schema = engine.tasks[0].learner.schema
    assert (schema.n_classes, len(schema.features[0].categories or ())) == (MOST_CLASSES, 355)
    assert dict(engine.tasks[0].learnt.counts.dead) == {"unknown-class": 1300 - 355}
    plain = [{"order": i, "ref": f"r{i}", "fraud": "no"} for i in range(1300)]
    engine = ran(filled(plain), tmp_path / "b", model="naive-bayes")
    assert len(engine.tasks[0].learner.schema.features[0].categories or ()) == 1024
    assert engine.tasks[0].learnt.inputs.categories.tolist() == [1300 - 1024]


def two_topics(abort: int | None) -> MemoryLog:
    log, plain = MemoryLog(), orders()
    for i, order in enumerate(plain):
        if i == abort:
            log.append("events", ABORT)
        given = {name: value for name, value in order.items() if name != "fraud"}
        log.append("events", Record(json.dumps(given).encode(), None, 10 * i))
        if i >= 40:
            label = {"ref": plain[i - 40]["order"], "is_fraud": plain[i - 40]["fraud"]}
            log.append("labels", Record(json.dumps(label).encode(), None, 10 * i + 5))
    for topic in ("events", "labels"):
        log.append(topic, EOF)
    log.create("journal")
    return log


def journaled(log: MemoryLog) -> Source:
    events = MemorySource(log, "events", "group")
    return JournaledSource(events, MemoryReader(log, "labels"), MemoryReader(log, "journal"))


@pytest.mark.parametrize("abort", [150, 333, 610])
def test_labels_of_another_topic_under_other_names(abort: int, tmp_path: Path) -> None:
    """Killed, it replays to what an uninterrupted run in the order of its journal learns."""
    options: dict[str, Any] = {"labels": FieldMapping("ref", "is_fraud")}
    log = two_topics(abort)
    with pytest.raises(SimulatedCrashError):
        ran(log, tmp_path / "a", source=journaled(log), **options)
    engine = ran(log, tmp_path / "a", source=journaled(log), **options)
    assert engine.tasks[0].learnt.join.counts.applied == EVENTS - 40
    assert sorted(engine.tasks[0].learner.schema.classes) == ["no", "unsure", "yes"]
    for file in (tmp_path / "a").rglob("*.ckpt"):
        file.unlink()
    again = ran(log, tmp_path / "a", source=journaled(log), **options)
    assert again.digests() == engine.digests()
    assert again.tasks[0].recovery.diverged == 0


def test_a_refused_checkpoint_names_each_difference(tmp_path: Path) -> None:
    log = filled(orders())
    ran(log, tmp_path, model="hoeffding-tree")
    other = Schema((Feature("amount", ("1",)), Feature("size")), ("no", "yes", "x"))
    with pytest.raises(CheckpointError) as error:
        ran(log, tmp_path, model="hoeffding-tree", schema=other, max_waiting=5)
    for difference in (
        "max_waiting was None, is 5", "unknown was 'grow', is None", "schema_records was 100, is None",
        "feature 'country' is gone", "feature 'size' is new", "feature 'amount' was a number, is a category",
        "class 'x' is new",
    ):  # fmt: skip
        assert difference in str(error.value)
    with pytest.raises(CheckpointError, match="the model was hoeffding-tree, is naive-bayes"):
        ran(log, tmp_path, model="naive-bayes")
    with pytest.raises(CheckpointError, match=r"mapping was .*'fraud'.*, is .*'country'"):
        ran(log, tmp_path, model="hoeffding-tree", mapping=FieldMapping("order", "country"))
