"""Our generated streams against MOA's, byte for byte, and against what theory says of them.

`moa_streams.jsonl` holds one fact a line as `python -m tests.parity.dump_moa EVENTS SEED NAME` printed it
(CapyMOA 0.15.1, Java 17), so that parity is checked without Java.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_moe.streams import GENERATED, open_stream
from stream_moe.types import Block, Float32, Int32

FACTS = [json.loads(line) for line in (Path(__file__).parent / "moa_streams.jsonl").read_text().splitlines()]
DIGITS = "1110111 0010010 1011101 1011011 0111010 1101011 1101111 1010010 1111111 1111011"


def first(name: str, events: int, seed: int = 1) -> Block:
    return next(open_stream(name, seed=seed).blocks(events))


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: f"{fact['name']}-{fact['events']}-seed{fact['seed']}")
def test_bytes_equal_moa(fact: dict[str, Any]) -> None:
    block = first(fact["name"], fact["events"], fact["seed"])
    assert hashlib.sha256(block.x.tobytes() + block.y.tobytes()).hexdigest() == fact["sha256"]


def test_facts_cover_every_generated_stream_and_every_drift() -> None:
    assert {f["name"] for f in FACTS if f["events"] == 200_000} >= {
        "led", "sea", "led_a", "led_g", "sea_a", "sea_g", "rbf_m", "rbf_f", "rbf_m5", "rbf_f5",
    }  # fmt: skip
    assert {f["name"].partition(":")[0] for f in FACTS if f["events"] >= 20_000} >= set(GENERATED)
    assert {f["name"] for f in FACTS if f["name"].startswith("agrawal:f") and f["events"] >= 20_000} >= {
        f"agrawal:function={function}" for function in range(1, 11)
    }
    assert {f["name"] for f in FACTS if f["events"] == 800_000} >= {"led_a", "led_g", "sea_a", "sea_g"}


def led_accuracy(x: Float32, y: Int32, columns: list[int]) -> float:
    """Accuracy of the nearest digit, the Bayes rule of LED when `columns` carry the segments."""
    digits = np.array([[int(bit) for bit in digit] for digit in DIGITS.split()], np.float32)
    distances = np.abs(x[:, None, columns] - digits).sum(2)
    return float((distances.argmin(1) == y).mean())


@pytest.mark.parametrize(
    ("events", "drifting"),
    [((0, 240_000), 1), ((260_000, 490_000), 3), ((510_000, 740_000), 5), ((760_000, 800_000), 7)],
)
def test_led_concepts_have_the_bayes_rate(events: tuple[int, int], drifting: int) -> None:
    block = first("led_a", 800_000)
    columns = [i + 7 if i < drifting else i for i in range(7)]
    here = slice(*events)
    assert led_accuracy(block.x[here], block.y[here], columns) == pytest.approx(0.74, abs=0.01)


@pytest.mark.parametrize(
    ("events", "threshold"),
    [((0, 240_000), 8.0), ((260_000, 490_000), 9.0), ((510_000, 740_000), 9.5), ((760_000, 800_000), 8.0)],
)
def test_sea_concepts_have_the_bayes_rate(events: tuple[int, int], threshold: float) -> None:
    block = first("sea_a", 800_000)
    x, y = block.x[slice(*events)], block.y[slice(*events)]
    assert ((x[:, 0] + x[:, 1] > threshold) == y).mean() == pytest.approx(0.9, abs=0.005)
    assert x.mean() == pytest.approx(5.0, abs=0.05)


@pytest.mark.parametrize(("name", "position", "width"), [("sea_a", 249_975, 50), ("sea_g", 225_000, 50_000)])
def test_a_drift_stays_in_its_window_and_is_half_done_at_its_position(name: str, position: int, width: int) -> None:
    """Between the thresholds of concepts 1 and 2 the label tells the concept, but for 10 % noise."""
    block = first(name, 300_000)
    at = np.flatnonzero((block.x[:, 0] + block.x[:, 1] > 8) & (block.x[:, 0] + block.x[:, 1] <= 9))
    is_new = block.y[at] == 0
    assert is_new[at < position - width / 2].mean() == pytest.approx(0.1, abs=0.01)
    assert is_new[at > position + width / 2].mean() == pytest.approx(0.9, abs=0.02)
    if width > 1000:
        middle = np.abs(at - position) < width / 20
        assert is_new[middle].mean() == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("name", "classes"), [("rbf_m", 2), ("rbf_f", 2), ("rbf_m5", 5), ("rbf_f5", 5)])
def test_rbf_is_learnable_from_the_last_events(name: str, classes: int) -> None:
    """The nearest of the 400 events before has the label far more often than the commonest class."""
    block = first(name, 5000)
    right = 0
    for t in range(4000, 5000):
        window = slice(t - 400, t)
        nearest = ((block.x[window] - block.x[t]) ** 2).sum(1).argmin()
        right += int(block.y[window][nearest] == block.y[t])
    counts = np.bincount(block.y, minlength=classes)
    assert len(counts) == classes
    assert (counts > 0).all()
    assert right / 1000 > max(0.85, counts.max() / 5000 + 0.2)
