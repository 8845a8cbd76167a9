"""Which fields of a record are its id, its label, its time and its features."""

from __future__ import annotations

from typing import Any

import pytest

from stream_moe.engine.fields import UnusableError
from stream_moe.engine.records.mapping import ABSENT, FieldMapping, found, leaves, milliseconds_of
from stream_moe.errors import ConfigError

ORDER = {"order_id": "o1", "ts": 1700000000, "amount": 9.5, "country": "DE", "fraud": False}


def test_all_members_but_id_label_and_time_are_features() -> None:
    picked = FieldMapping(id="order_id", label="fraud", time="ts").pick(ORDER)
    assert picked == ("o1", False, 1700000000, {"amount": 9.5, "country": "DE"})


def test_a_member_called_id_is_no_feature_unless_another_is_the_id() -> None:
    record = {"id": 1, "amount": 2}
    assert FieldMapping(label="y").pick(record).features == {"amount": 2}
    assert FieldMapping(id="amount").pick(record).features == {"id": 1}


@pytest.mark.parametrize(
    ("mapping", "features"),
    [
        (FieldMapping(features=("a", "gone")), {"a": 1}),
        (FieldMapping(features=("b",)), {"b.c": 2, "b.d": "x"}),
        (FieldMapping(drop=("b",)), {"a": 1, "e.f": 3}),
        (FieldMapping(drop=("b.c", "a")), {"b.d": "x", "e.f": 3}),
        (FieldMapping(features=("b.c", "e.f")), {"b.c": 2, "e.f": 3}),
        (FieldMapping(envelope="b"), {"c": 2, "d": "x"}),
        (FieldMapping(envelope="b", id="$.a", label="c"), {"d": "x"}),
    ],
)
def test_all_some_or_all_but_some_are_features(mapping: FieldMapping, features: dict[str, Any]) -> None:
    assert mapping.pick({"a": 1, "b": {"c": 2, "d": "x"}, "e.f": 3}).features == features


@pytest.mark.parametrize("payload", [None, [1], "text", {}])
def test_a_record_without_the_envelope_is_refused(payload: Any) -> None:
    with pytest.raises(UnusableError, match="no-envelope"):
        FieldMapping(envelope="payload.after").pick({"payload": {"after": payload} if payload != {} else {}})


def test_a_name_with_dots_of_its_own_goes_before_a_path() -> None:
    record = {"a.b": 1, "a": {"b": 2, "c.d": 3}}
    assert (found(record, "a.b"), found(record, "a.c.d"), found(record, "a.x")) == (1, 3, ABSENT)


def test_objects_nested_without_end_are_cut_and_not_followed() -> None:
    deep: dict[str, Any] = {"a": 1}
    for _ in range(100):
        deep = {"n": deep, "b": 2}
    assert len(list(leaves(deep))) == 17


@pytest.mark.parametrize(
    "value", [1700000000, 1700000000.0, "1700000000", 1700000000000, 1700000000000000, 17 * 10**17]
)
def test_a_moment_is_read_in_any_unit(value: Any) -> None:
    assert milliseconds_of(value) == 1700000000000


@pytest.mark.parametrize(
    "value", ["", "NA", "10:30", "yesterday", [1], {}, float("nan"), float("inf"), 10**400, False]
)
def test_what_is_no_moment_has_none(value: Any) -> None:
    assert milliseconds_of(value) is None


@pytest.mark.parametrize(
    "given",
    [{"id": ""}, {"label": "a..b"}, {"id": "a", "label": "a"}, {"label": "y", "features": ("y",)}, {"envelope": "."}],
)
def test_a_mapping_that_contradicts_itself_is_one_line(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="mapping"):
        FieldMapping(**given)
