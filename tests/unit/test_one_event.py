"""One event at a time, as river has it: the same as blocks, whatever the dict holds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from stream_moe import DriftMoE, DriftMoEData
from stream_moe.models.contract import BlockClassifier
from stream_moe.rows import LARGEST, RowEncoder
from stream_moe.types import Feature, Schema

SCHEMA = Schema((Feature("size"), Feature("colour", ("red", "blue")), Feature("7")), ("no", "yes"))


@pytest.mark.parametrize("kind", [DriftMoE, DriftMoEData])
def test_events_one_by_one_are_a_block(kind: Any) -> None:
    rng = np.random.default_rng(1)
    x = rng.random((300, 3)).astype(np.float32)
    x[:, 1] = rng.integers(0, 2, 300)
    y = (x[:, 0] + x[:, 1] > 1).astype(np.int32)
    alone, whole = kind(SCHEMA, seed=1), kind(SCHEMA, seed=1)
    said = []
    for (size, colour, other), label in zip(x.tolist(), y.tolist(), strict=True):
        event = {"size": size, "colour": ("red", "blue")[int(colour)], 7: other}
        said.append(alone.predict_one(event))
        proba = alone.predict_proba_one(event)
        assert said[-1] == max(proba, key=proba.__getitem__)
        alone.learn_one(event, ("no", "yes")[label])
    assert said == [SCHEMA.classes[c] for c in whole.step(x, y).argmax(1)]
    assert alone.digest == whole.digest


def test_before_anything_is_learnt_nothing_is_predicted() -> None:
    model: BlockClassifier = DriftMoE(seed=1)
    assert model.predict_one({"size": 1.0}) is None
    assert model.predict_proba_one({"size": 1.0}) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, 1.0), (True, 1.0), (np.float32(0.1), 0.1), (np.bool_(True), 1.0), (np.int64(2**40), 2.0**40),
        (np.nextafter(LARGEST, 0), 3.4028234663852886e38), (LARGEST, math.nan), (10**400, math.nan),
        (-math.inf, math.nan), (math.nan, math.nan), (None, math.nan), ("1", 1.0), ("one", math.nan), ([1], math.nan),
    ],
)  # fmt: skip
def test_a_number_is_what_a_float32_holds_and_else_missing(value: Any, expected: float) -> None:
    row = RowEncoder(SCHEMA).encode_known({"size": value, "colour": "blue"})
    assert row.dtype == np.float32
    assert np.array_equal(row, np.array([[expected, 1, np.nan]], np.float32), equal_nan=True)


def test_the_quick_look_misses_nothing_new() -> None:
    rows = RowEncoder(None)
    events: list[tuple[dict[Any, Any], Any, str]] = [
        ({"a": 1.0, "b": "x"}, True, "started"),
        ({"b": "x", "a": 2.0}, True, ""),
        ({"a": 2.0}, True, ""),
        ({"a": "text where a number was", "b": 3}, True, "grown"),
        ({"a": 2.0, "b": "y"}, True, "grown"),
        ({"a": 2.0, "b": "y"}, False, "grown"),
        ({"a": 2.0, "b": "y", 5: 1}, False, "grown"),
        ({"a": 2.0, "b": "y", "5": 1}, False, ""),
    ]
    assert [rows.encode(x, y)[1] for x, y, _ in events] == [grown for _, _, grown in events]
    assert [feature.name for feature in rows.schema.features] == ["a", "b", "5"]
    assert rows.schema.features[1].categories == ("x", "3", "y")
    assert rows.labels == [True, False]
