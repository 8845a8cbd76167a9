"""Our Hoeffding tree and naive Bayes against river's and MOA's, with the same parameters on the same streams.

A tree is chaotic: one split that falls the other way changes all that follows. So what must agree is the
accuracy, and where a single seed moves it by more than the tolerance, its mean over seeds.
"""

from __future__ import annotations

import numpy as np
import pytest
from river import tree

from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import Feature, Float32, Int32, Schema

COLOURS = ("red", "green", "blue", "grey")


def numeric(n: int) -> tuple[Schema, Float32, Int32]:
    """A tree of depth two over two of six features, and 10 % noise."""
    rng = np.random.default_rng(1)
    x = rng.random((n, 6))
    y = np.where(x[:, 0] > 0.6, x[:, 1] > 0.3, x[:, 2] > 0.7)
    return Schema.numeric(6, ["no", "yes"]), x.astype(np.float32), (y ^ (rng.random(n) < 0.1)).astype(np.int32)


def nominal(n: int) -> tuple[Schema, Float32, Int32]:
    """Three classes by an interaction of two of five nominal features, and 15 % noise."""
    rng = np.random.default_rng(2)
    x = rng.integers(0, 4, (n, 5))
    y = np.where(x[:, 0] == 0, x[:, 1] % 3, (x[:, 0] + (x[:, 2] == 1)) % 3)
    y = np.where(rng.random(n) < 0.15, rng.integers(0, 3, n), y)
    schema = Schema(tuple(Feature(f"f{j}", COLOURS) for j in range(5)), ("a", "b", "c"))
    return schema, x.astype(np.float32), y.astype(np.int32)


def mixed(n: int) -> tuple[Schema, Float32, Int32]:
    """The colour says which of two Gaussian features counts."""
    rng = np.random.default_rng(3)
    colour, gauss = rng.integers(0, 4, n), rng.normal(0, 1, (n, 3))
    y = np.where(colour < 2, gauss[:, 0] > 0.2, gauss[:, 1] + 0.3 * gauss[:, 2] > -0.4)
    x = np.column_stack([gauss[:, 0], colour, gauss[:, 1], gauss[:, 2]])
    schema = Schema((Feature("a"), Feature("colour", COLOURS), Feature("b"), Feature("c")), ("no", "yes"))
    return schema, x.astype(np.float32), (y ^ (rng.random(n) < 0.05)).astype(np.int32)


@pytest.mark.parametrize("stream", [numeric, nominal, mixed])
def test_accuracy_is_that_of_river(stream: object) -> None:
    assert callable(stream)
    schema, x, y = stream(20_000)
    theirs = tree.HoeffdingTreeClassifier(
        grace_period=50, delta=1e-7, tau=0.05, leaf_prediction="nba", splitter=tree.splitter.GaussianSplitter(10)
    )
    right = 0
    for row, label in zip(x.tolist(), y.tolist(), strict=True):
        event = {
            f.name: value if f.categories is None else f.categories[int(value)]
            for f, value in zip(schema.features, row, strict=True)
        }
        right += theirs.predict_one(event) == label
        theirs.learn_one(event, label)
    ours = build_model("hoeffding-tree", schema)
    accuracy = (ours.step(x, y).argmax(1) == y).mean()
    assert accuracy == pytest.approx(right / len(y), abs=0.01)
    assert ours.report().experts[0].splits > 3  # or else only naive Bayes was compared


# Accuracy of the first 50,000 events, as printed by `python capymoa_peers.py STREAM HT 50000 SEED` (NB for
# naive Bayes) with CapyMOA 0.15.1: the whole loop in MOA, grace period 50, confidence 1e-7.
MOA = [
    ("led", "hoeffding-tree", [0.7312]),
    ("sea", "hoeffding-tree", [0.8751]),
    ("rbf_f", "hoeffding-tree", [0.6289]),
    # Rounding the features to float32, as we do, is enough to move MOA's own 0.7808 of seed 1 to 0.7753.
    ("rbf_m", "hoeffding-tree", [0.7808, 0.7835, 0.7547, 0.7684, 0.7705, 0.7651]),
    ("led", "naive-bayes", [0.7371]),
    ("sea", "naive-bayes", [0.8811]),
    ("rbf_f", "naive-bayes", [0.5384]),
    ("rbf_m", "naive-bayes", [0.6034]),
]


@pytest.mark.parametrize(("name", "model", "by_seed"), MOA)
def test_accuracy_is_that_of_moa(name: str, model: str, by_seed: list[float]) -> None:
    ours = []
    for seed in range(1, len(by_seed) + 1):
        stream = open_stream(name, seed=seed)
        block = next(stream.blocks(50_000))
        ours.append((build_model(model, stream.schema).step(block.x, block.y).argmax(1) == block.y).mean())
    assert np.mean(ours) == pytest.approx(np.mean(by_seed), abs=0.005 if model == "hoeffding-tree" else 0.0005)
