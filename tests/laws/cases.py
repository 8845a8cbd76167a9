"""Learners under the laws, and a stream with everything in it that a learner must bear."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from river import tree

from stream_moe.experts.foreign.river import RiverExpert
from stream_moe.models.catalogue import build_model, model_names
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.single import SingleExpert
from stream_moe.types import Feature, Float32, Float64, Int32, Schema

SCHEMA = Schema(
    (
        Feature("a"),
        Feature("colour", ("red", "green", "blue")),
        Feature("b"),
        Feature("shape", ("round", "square", "flat", "long", "thin")),
        Feature("c"),
    ),
    ("w", "x", "y", "z"),
)
HAS_JAVA = bool(shutil.which("java") or os.environ.get("JAVA_HOME"))
FOREIGN = ["river", "capymoa:ARF3"] if HAS_JAVA else ["river"]
GROWING = [*model_names(), "two-stage-task", "two-stage-gmm"]
STORABLE = [*GROWING, "keyed"]
NAMES = [*STORABLE, *FOREIGN]
ONE_ANSWER = [name for name in NAMES if name != "driftmoe-task"]  # its `step` answers under dropout, as published
# Small mini-batches and windows: a short stream must fill them several times.
OPTIONS = {
    "driftmoe-data": {"mini_batch": "48", "n_experts": "5"},
    "driftmoe-two-stage": {"mini_batch": "48", "n_experts": "5", "burn_in": "60", "first_half": "150"},
    "two-stage-task": {"variant": "task", "mini_batch": "48", "first_half": "150"},
    "two-stage-gmm": {"clusters": "gmm", "mini_batch": "48", "n_experts": "4", "burn_in": "60", "first_half": "150"},
    "knn": {"window": "100"},
    "hoeffding-tree": {"delta": "0.01"},
}


def build(name: str, schema: Schema | None = SCHEMA, *, threads: int = 1) -> BlockClassifier:
    if name == "river":
        return SingleExpert(schema, expert=RiverExpert, parameters={"model": tree.HoeffdingTreeClassifier()})
    if name == "keyed":  # four keys, the missing colour's too, and room for three
        assert schema is not None
        expert = partial(build, "hoeffding-tree", threads=threads)
        return KeyedLearner(schema, make=expert, max_keys=3, key_feature="colour")
    model = "driftmoe-two-stage" if name.startswith("two-stage") else name
    return build_model(model, schema, seed=3, threads=threads, options=OPTIONS.get(name))


def mixed_stream(n: int, seed: int = 1) -> tuple[Float32, Int32]:
    """Numeric and nominal features, 5 % missing, 10 % unlabelled, four classes, drift in the middle."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, n)
    concept = (np.arange(n) >= n // 2).astype(int)
    x = np.empty((n, 5), np.float32)
    x[:, 0] = rng.normal(np.where(concept, 3 - y, y), 0.8)
    x[:, 1] = np.where(rng.random(n) < 0.7, (y + concept) % 3, rng.integers(0, 3, n))
    x[:, 2] = rng.exponential(1.0 + 100.0 * (y > 1))
    x[:, 3] = np.where(rng.random(n) < 0.5, y + concept, rng.integers(0, 5, n))
    x[:, 4] = 7.0  # constant
    x[rng.random(x.shape) < 0.05] = np.nan
    y[rng.random(n) < 0.1] = -1
    return x, y.astype(np.int32)


def events(x: Float32, schema: Schema = SCHEMA) -> Iterator[dict[str, Any]]:
    """The same rows as river's dicts: a missing value has no key."""
    for row in x.tolist():
        yield {
            feature.name: value if feature.categories is None else feature.categories[int(value)]
            for feature, value in zip(schema.features, row, strict=True)
            if value == value  # noqa: PLR0124 - not NaN
        }


def run(model: BlockClassifier, x: Float32, y: Int32, rows: int) -> tuple[Float64, Float32]:
    """Step through the stream in blocks; return the predictions and the router's weights."""
    weights = np.empty((len(x), model.n_experts), np.float32)
    starts = range(0, len(x), rows)
    proba = [model.step(x[s : s + rows], y[s : s + rows], weights[s : s + rows]) for s in starts]
    return np.concatenate(proba), weights
