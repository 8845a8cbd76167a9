"""Which fields of a topic's records look like id, label, time and features."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stream_moe.cli.topics import written
from stream_moe.engine.records.mapping import FieldMapping
from stream_moe.engine.records.proposal import Proposal, propose
from stream_moe.errors import ConfigError

N = 60


def orders(**more: Any) -> list[dict[str, Any]]:
    return [
        {"order_id": f"o{i}", "ts": 1.7e9 + i, "amount": i % 7, "fraud": i % 5 == 0}
        | {name: value(i) for name, value in more.items()}
        for i in range(N)
    ]


def proposed(records: list[dict[str, Any]], labels: Any = None, given: FieldMapping | None = None) -> FieldMapping:
    return propose(records, labels, given or FieldMapping()).mapping


def test_a_flat_record_is_taken_apart() -> None:
    assert proposed(orders()) == FieldMapping("order_id", "fraud", "ts")


@pytest.mark.parametrize(
    ("name", "value", "is_time"),
    [
        ("createdAt", lambda i: f"2026-01-01T00:00:{i:02}Z", True),
        ("event.time", lambda i: 1_700_000_000_000 + i, True),
        ("timestamp", lambda i: i, False),  # a counter
        ("updated", lambda i: "soon" if i == 7 else "2026-01-01", False),
        ("lifetime", lambda i: 1.7e9, False),
    ],
)
def test_a_time_has_a_name_and_moments(name: str, value: Any, is_time: bool) -> None:
    records = [{**order, name: value(i)} for i, order in enumerate(orders())]
    for record in records:
        del record["ts"]
    assert (proposed(records).time == name) is is_time


def test_texts_of_their_own_are_left_out_and_numbers_are_not() -> None:
    mapping = proposed(orders(session=lambda i: f"s{i}", cents=lambda i: 100 + i, day=lambda i: f"d{i % 7}"))
    assert mapping.drop == ("session",)


INSIDE = FieldMapping("order_id", "fraud", "ts")
CLOUD = {"specversion": "1.0", "time": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("wrap", "mapping"),
    [
        (lambda order: {"payload": {"before": None, "after": order}}, replace(INSIDE, envelope="payload.after")),
        (lambda order: {"op": "c", "after": order}, replace(INSIDE, envelope="after")),
        (
            lambda order: CLOUD | {"id": order["order_id"], "data": order},
            FieldMapping("$.id", "fraud", "$.time", drop=("order_id",), envelope="data"),
        ),
    ],
)
def test_envelopes_are_found(wrap: Any, mapping: FieldMapping) -> None:
    assert proposed([wrap(order) for order in orders()]) == mapping


def test_ids_are_the_field_that_the_labels_name() -> None:
    records = orders(customer_id=lambda i: f"c{i}")
    for record in records:
        del record["fraud"]
    labels = [{"when": 1.7e9, "ref": f"o{i}", "verdict": i % 3 == 0, "note": f"n{i}"} for i in range(30)]
    found = propose(records, labels, FieldMapping())
    assert found.mapping.id == "order_id"
    assert found.labels == FieldMapping("ref", "verdict")
    assert (found.mapping.time, found.mapping.drop) == (None, ("ts", "customer_id"))
    assert any("time ts: not taken, as the labels have no such field" in reason for reason in found.reasons)
    found = propose(records, [label | {"ts": 1.7e9} for label in labels], FieldMapping())
    assert (found.mapping.time, found.labels) == ("ts", FieldMapping("ref", "verdict", "ts"))


@pytest.mark.parametrize(
    ("records", "labels", "message"),
    [
        ([{"a": i, "b": i % 3} for i in range(N)], None, r"name it with --label-field.*'b' \(3\)"),
        ([{"a": i} for i in range(N)], None, "none has 2 to 20 values"),
        (orders(), [{"ref": f"x{i}", "ok": 1} for i in range(9)], "no field of the labels has values .* 'ref', 'ok'"),
        (orders(), [{"ref": f"o{i}"} for i in range(9)], "no field of the labels' topic looks like a label.* 'ref'"),
    ],
)
def test_what_nothing_looks_like_is_asked_for(records: Any, labels: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        proposed(records, labels)


def test_what_is_given_stays() -> None:
    given = FieldMapping("amount", "order_id", features=("fraud",))
    found = proposed(orders(), None, given)
    assert (found.id, found.label, found.features) == ("amount", "order_id", ("fraud",))


def test_the_form_of_old_needs_no_names() -> None:
    assert proposed([{"id": i, "x": [1], "y": "a"} for i in range(9)]) == FieldMapping()


def test_the_file_reads_back_as_what_was_proposed() -> None:
    from stream_moe.cli.flags import groups_of
    from stream_moe.cli.run import RunSettings

    mapping = FieldMapping("$.id", "b c", "t", ("a,b", 'q"', "d.e"), ("x",), "data")
    text = written({"topic": "orders"}, Proposal(mapping, FieldMapping("r", "y")), Path("a b.json"))
    records = groups_of(RunSettings)["records"](**tomllib.loads(text)["records"])
    assert records.mapping() == mapping
    assert records.labels() == FieldMapping("r", "y")
    assert (records.schema, records.unknown) == ("a b.json", "grow")
