"""A producer that broke: names that are no features, features that are gone, categories that are none."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe.engine.codec import JsonCodec
from stream_moe.engine.inputs import MOST_NAMES, WINDOW, InputCounts
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.models.catalogue import build_model
from stream_moe.report import GroupReport, PartitionReport
from stream_moe.snapshot import Snapshot
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.findings import judge
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.prometheus import Exporter
from stream_moe.types import Block, Feature, RecordBatch, Schema

SCHEMA = Schema(
    (Feature("a"), Feature("b"), Feature("c"), Feature("day", ("Mon", "Tue"))), ("no", "yes")
)  # fmt: skip
RENAMED = {"a": "A", "c": "C"}
FINE = Verdict(True, "the loop turns")


def events(n: int, seed: int = 1) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    x = rng.random((n, 3)).round(3)
    days = rng.integers(0, 2, n)
    return [
        {"id": f"{seed}-{i}", "x": {"a": row[0], "b": row[1], "c": row[2], "day": ("Mon", "Tue")[day]},
         "y": "yes" if row[0] > 0.5 else "no"}
        for i, (row, day) in enumerate(zip(x.tolist(), days.tolist(), strict=True))
    ]  # fmt: skip


def renamed(event: dict[str, Any]) -> dict[str, Any]:
    return event | {"x": {RENAMED.get(name, name): value for name, value in event["x"].items()}}


def decoded(codec: JsonCodec, values: list[bytes]) -> tuple[Block, Any]:
    n = len(values)
    return codec.decode(RecordBatch(np.arange(n), np.zeros(n, np.int64), [None] * n, list(values), n))


def counted(plain: list[Any], rows: int = 256, schema: Schema = SCHEMA) -> InputCounts:
    counts = InputCounts(schema)
    codec = JsonCodec(schema, inputs=counts)
    values = [json.dumps(each).encode() for each in plain]
    for start in range(0, len(values), rows):
        block, _ = decoded(codec, values[start : start + rows])
        counts.update(block.x if block.has_features is None else block.x[block.has_features])
    return counts


@pytest.mark.parametrize("rows", [1, 7, 1000, 10_000])
@pytest.mark.parametrize("beside", [False, True])
def test_names_are_counted_exactly_whatever_the_blocks(rows: int, beside: bool) -> None:
    plain = events(1500)
    for i, event in enumerate(plain):
        event["x"] |= {"new": i} if i % 3 == 0 else {}
        event["x"] |= {'quo"ted': None} if i % 5 == 0 else {}
    if beside:
        plain = [{"id": event["id"], "y": event["y"]} | event["x"] for event in plain]
    else:
        plain = [event | {"source": "till"} for event in plain]  # beside x a member is no name of a feature
    counts = counted(plain, rows)
    assert counts.names == {"new": 500, 'quo"ted': 300}
    assert (counts.others, counts.report().gone) == (0, ())


def test_a_name_that_comes_again_is_read_with_its_record(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = InputCounts(SCHEMA)
    codec = JsonCodec(SCHEMA, inputs=counts)
    values = [json.dumps(renamed(event)).encode() for event in events(100)]
    decoded(codec, values)
    calls: list[bytes] = []
    monkeypatch.setattr(codec._members, "_names", calls.append)
    block, dead = decoded(codec, values)
    assert (counts.names, calls, dead) == ({"A": 200, "C": 200}, [], [])
    assert np.isnan(block.x).sum(0).tolist() == [100, 0, 100, 0]


def test_names_beyond_the_bound_are_counted_together() -> None:
    plain = [{"x": {"a": 1, f"n{i}": 2}} for i in range(250)] * 2
    counts = counted(plain)
    assert (len(counts.names), sum(counts.names.values()), counts.others) == (MOST_NAMES, 200, 300)
    news = list(counts.news())
    assert news[0].startswith("'n0', 'n1',")
    assert news[0].endswith("and 92 more are no features of the schema: ignored")
    assert news[1:] == ["more than 100 names are no features; the rest is counted together"]
    assert list(counts.news()) == []


def test_a_long_name_and_one_that_is_no_text_are_kept_short() -> None:
    counts = counted([{"x": {"a": 1, "n" * 500: 2}}, {"x": {"a": 1, "\ud800": 2}}] * 3)
    assert counts.names == {"n" * 100: 3, "'\\ud800'": 3}
    restored(counts)


def restored(counts: InputCounts, schema: Schema = SCHEMA) -> InputCounts:
    arrays, plain = counts.snapshot()
    again = InputCounts(schema)
    again.restore((arrays, json.loads(json.dumps(plain))))
    assert again.report().names == counts.report().names
    assert again.report().gone == counts.report().gone
    return again


def test_some_features_renamed() -> None:
    before, after = events(5000), [renamed(event) for event in events(2000, 2)]
    counts = counted(before + after)
    found = counts.report()
    assert found.gone == ("a", "c")
    assert found.missing.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert found.names == {"A": 2000, "C": 2000}
    names, gone = counts.news()
    assert names == "'A', 'C' are no features of the schema: ignored"
    assert gone.startswith("features gone: 'a' (missing in 1,000 of the latest 1,000 events, usually in 0%), 'c' (")
    again = restored(counts)
    again.update(np.zeros((WINDOW, 4), np.float32))
    assert again.report().gone == ()


@pytest.mark.parametrize(
    ("usual", "then", "is_gone"),
    [
        (0.0, 0.45, False),
        (0.0, 0.6, True),
        (0.9, 1.0, True),
        (0.99, 1.0, False),
        (0.3, 0.85, True),
        (1.0, 0.0, False),
    ],
)
def test_a_feature_is_gone_by_what_is_usual(usual: float, then: float, is_gone: bool) -> None:
    schema, rng = Schema.numeric(1, ["no", "yes"]), np.random.default_rng(1)
    counts = InputCounts(schema)
    for share in [usual] * 20 + [then] * 30:
        x = np.where(rng.random((WINDOW, 1)) < share, np.nan, 1).astype(np.float32)
        counts.update(x)
    assert counts.report().gone == (("x0",) if is_gone else ())


def test_a_feature_that_never_came_is_gone_if_there_are_unknown_names() -> None:
    plain = [{"x": {"a": 1, "b": 1, "day": "Mon"}}] * 1000
    assert counted(plain).report().gone == ()
    assert counted([{"x": each["x"] | {"C": 1}} for each in plain]).report().gone == ("c",)


def test_categories_that_are_none_are_counted_and_missing() -> None:
    plain = events(1000)
    for event in plain[:300]:
        event["x"]["day"] = "Wed"
    plain[400]["x"]["day"] = None
    plain[401]["x"]["day"] = "NA"
    counts = counted(plain)
    assert counts.report().categories.tolist() == [0, 0, 0, 300]
    assert counts.report().missing[3] == pytest.approx(0.302)
    assert list(counts.news()) == ["feature 'day': 'Wed' is none of its categories: taken as missing"]


MEMBERS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "day", "A", "x", "y", "id", 'q"', "é", *(f"n{i}" for i in range(120))]),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=4), st.just("Mon"),
              st.just({"deep": [1]})),
    max_size=8,
)  # fmt: skip
RECORDS = st.one_of(
    st.builds(lambda x, more: json.dumps({"x": x} | more).encode(), MEMBERS, MEMBERS),
    st.builds(lambda x: json.dumps(x).encode(), MEMBERS),
    st.builds(lambda x, junk: b'{"x":%s,"y":"yes","j":%s}' % (json.dumps(x).encode(), junk), MEMBERS, st.binary()),
    st.builds(lambda junk: b'{"x":{"a":1,"new":"%s"},"y":"yes"}' % junk, st.binary(max_size=6)),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(RECORDS, max_size=30), st.integers(1, 30))
def test_counting_changes_nothing_of_what_is_read(values: list[bytes], rows: int) -> None:
    counts = InputCounts(SCHEMA)
    with_counts = JsonCodec(SCHEMA, inputs=counts)
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        plain, dead = decoded(JsonCodec(SCHEMA), part)
        block, letters = decoded(with_counts, part)
        assert letters == dead
        assert block.x.tobytes() == plain.x.tobytes()
        assert (block.y.tolist(), block.ids) == (plain.y.tolist(), plain.ids)
        counts.update(block.x)
    assert len(counts.names) <= MOST_NAMES
    restored(counts)


# ---- the engine


def engine_over(log: MemoryLog, state: Path, reports: list[PartitionReport]) -> Engine:
    return Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: FileCheckpointStore(state),
        lambda schema: build_model("naive-bayes", schema, seed=1),
        EngineSettings("naive-bayes", block_rows=256, checkpoint_events=1000, until_caught_up=True),
        schema=SCHEMA,
        on_report=reports.append,
    )


def written(log: MemoryLog, plain: list[dict[str, Any]]) -> None:
    for i, event in enumerate(plain):
        log.append("events", Record(json.dumps(event).encode(), None, i, ()))
    log.append("events", EOF)


def test_half_of_the_features_renamed_is_seen_and_survives_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log, reports = MemoryLog(), list[PartitionReport]()
    written(log, events(4000))
    engine_over(log, tmp_path, reports).run()
    assert judge([replace(reports[-1], state="running")], GroupReport("running", (0,)), {}, {}, FINE)[0].alert == ""
    again = MemoryLog()
    again.extend("events", log.records("events"))
    written(again, [renamed(event) for event in events(2500, 2)])
    with caplog.at_level(logging.WARNING):
        engine_over(again, tmp_path / "again", reports).run()
    lines = [record.getMessage() for record in caplog.records]
    assert sum("partition 0: 'A', 'C' are no features of the schema: ignored" in line for line in lines) == 1
    assert sum("features gone: 'a' (" in line for line in lines) == 1
    for turn in range(2):  # a second start knows it from its checkpoint
        last = reports[-1]
        assert last.inputs is not None
        assert last.inputs.gone == ("a", "c")
        verdict = judge([last], GroupReport("running", (0,)), {}, {}, FINE)[0]
        assert (verdict.alert, verdict.tone, verdict.state) == ("StreamMoeFeaturesGone", "warning", "features gone")
        assert verdict.reason == (
            "2 of 4 features are missing that were there: a, c; records bring what is no feature and is ignored: A, C"
        )
        board = Board()
        board.update(replace(last, state="running"))
        scrape = Exporter(board).exposition().decode()
        assert 'stream_moe_features_gone{partition="0"} 2.0' in scrape
        assert 'stream_moe_unknown_names_total{feature="A",partition="0"} 2500.0' in scrape
        assert 'stream_moe_feature_missing_ratio{feature="c",partition="0"} 1.0' in scrape
        if not turn:
            again.append("events", EOF)
            engine_over(again, tmp_path / "again", reports).run()


def test_it_is_seen_within_two_thousand_events(tmp_path: Path) -> None:
    log, reports = MemoryLog(), list[PartitionReport]()
    written(log, events(3300) + [renamed(event) for event in events(2000, 2)])
    engine_over(log, tmp_path, reports).run()
    first = next(report for report in reports if report.inputs is not None and report.inputs.gone)
    assert 3300 < first.events_consumed <= 3300 + 1500


def test_a_checkpoint_from_before_they_were_counted_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stream_moe.engine import state as module

    log, reports = MemoryLog(), list[PartitionReport]()
    written(log, events(2000))
    whole = module.PartitionState.parts

    def without(self: module.PartitionState) -> dict[str, Snapshot]:
        return {name: part for name, part in whole(self).items() if name != "inputs"}

    monkeypatch.setattr(module.PartitionState, "parts", without)
    engine_over(log, tmp_path, reports).run()
    monkeypatch.undo()
    log.append("events", EOF)
    engine = engine_over(log, tmp_path, reports)
    engine.run()
    assert engine.tasks[0].recovery.checkpoint is not None
    assert engine.tasks[0].learnt.counts.features == 2000
    assert reports[-1].inputs is not None
    assert reports[-1].inputs.names == {}
