"""The two-stage variants: what they are, event by event, and their clusters."""

from __future__ import annotations

import sys
from typing import Literal

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from stream_moe.errors import ConfigError
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.models.catalogue import build_model
from stream_moe.models.published.clusters import find_clusters, one_column_per_category
from stream_moe.models.published.one_against_rest import one_class_schema
from stream_moe.models.published.two_stage import DriftMoETwoStage
from stream_moe.router.published.mlp import Router
from stream_moe.streams import open_stream
from stream_moe.types import Float32, Float64
from tests.laws.cases import SCHEMA, mixed_stream

Kind = Literal["kmeans", "gmm"]
N, BURN_IN, HALF, B = 900, 200, 500, 32


def softmax(logits: Float32, temperature: float) -> Float64:
    powers = np.exp((logits.astype(float) - logits.max()) / temperature)
    return powers / powers.sum()


def one(expert: HoeffdingTree, x: Float32, y: int = -1) -> Float64:
    """Ask an expert about one event, then let it learn if y is a class."""
    proba = np.empty((1, expert.n_classes))
    expert.step(x[None], np.array([y], np.int32), np.ones(1), proba)
    return proba[0]


def stepped(router: Router, held: list[tuple[Float32, Float32]], x: Float32, target: Float32) -> None:
    held.append((x, target))
    if len(held) == B:
        router.learn(np.stack([x for x, _ in held]), np.stack([target for _, target in held]))
        held.clear()


@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_data_is_its_definition_event_by_event(kind: Kind) -> None:
    x, y = mixed_stream(N)
    x, y = x[y >= 0], y[y >= 0]
    model = DriftMoETwoStage(
        SCHEMA,
        clusters=kind,
        burn_in=BURN_IN,
        first_half=HALF,
        n_experts=4,
        mini_batch=B,
        seed=3,
    )
    found = model.step(x, y)
    expected = []
    only, trees, held = HoeffdingTree(SCHEMA), list[HoeffdingTree](), list[tuple[Float32, Float32]]()
    for t in range(len(x)):
        if t < BURN_IN:
            expected.append(one(only, x[t], y[t]))
            continue
        if t == BURN_IN:
            clusters = find_clusters(x[:t], SCHEMA.n_categories, kind=kind, most=4, seed=3)
            trees = [HoeffdingTree(SCHEMA) for _ in clusters.bias]
            router = Router(5, len(trees), hidden=(256, 128), seed=3)
            for i, cluster in enumerate(clusters.assign(x[:t])):
                one(trees[cluster], x[i], y[i])
        if t < HALF:
            expected.append(one(trees[clusters.assign(x[t : t + 1])[0]], x[t], y[t]))
            continue
        opinions = np.array([one(tree, x[t]) for tree in trees])
        expected.append(opinions[softmax(router.logits(x[t : t + 1])[0], 0.8).argmax()])
        right = opinions.argmax(1) == y[t]
        if not right.any():
            right[opinions[:, y[t]].argmax()] = True
        stepped(router, held, x[t], right.astype(np.float32))
    assert len(trees) > 1
    assert np.array_equal(found, expected)
    assert model.router.steps == router.steps == (len(x) - HALF) // B  # one Adam all along, not one a step
    assert model.router.snapshot()[0]["m"].tobytes() == router.snapshot()[0]["m"].tobytes()


def test_task_is_its_definition_event_by_event() -> None:
    x, y = mixed_stream(N)
    x, y = x[y >= 0], y[y >= 0]
    model = DriftMoETwoStage(SCHEMA, variant="task", first_half=HALF, mini_batch=B, seed=3)
    found = model.step(x, y)
    trees = [HoeffdingTree(one_class_schema(SCHEMA)) for _ in range(4)]
    router, held = Router(5, 4, seed=3), list[tuple[Float32, Float32]]()
    for t in range(len(x)):
        learn = t < HALF
        yes = np.array([one(tree, x[t], int(y[t] == c) if learn else -1)[1] for c, tree in enumerate(trees)])
        votes = yes if learn else yes * softmax(router.logits(x[t : t + 1])[0], 0.8)
        if not votes.any():  # every tree is sure that it is not its class
            votes = np.ones(4) if learn else softmax(router.logits(x[t : t + 1])[0], 0.8)
        assert found[t] == pytest.approx(votes / votes.sum(), abs=1e-6)
        if not learn:
            stepped(router, held, x[t], (np.arange(4) == y[t]).astype(np.float32))
    assert model.router.steps == router.steps > 0


@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_clusters_are_those_of_scikit_learn_on_whitened_components(kind: Kind) -> None:
    x, _ = mixed_stream(400)
    found = find_clusters(x, SCHEMA.n_categories, kind=kind, most=6, seed=5)
    columns = one_column_per_category(x, SCHEMA.n_categories)
    deviation = np.nanstd(columns, 0)
    standard = np.nan_to_num((columns - np.nanmean(columns, 0)) / np.where(deviation == 0, 1, deviation))
    z = PCA(0.95, svd_solver="full", whiten=True).fit_transform(standard)
    tried = {}
    for k in range(2, 7):
        fresh = (
            KMeans(k, n_init=3, random_state=5)
            if kind == "kmeans"
            else GaussianMixture(k, reg_covar=1e-3, random_state=5)
        )
        labels = fresh.fit(z).predict(z)
        tried[k] = silhouette_score(z, labels), labels
    best = max(tried, key=lambda k: tried[k][0])
    assert len(found.bias) == best
    assert np.array_equal(found.assign(x), tried[best][1])


@pytest.mark.parametrize("kind", ["kmeans", "gmm"])
def test_events_all_alike_or_all_missing_are_one_cluster(kind: Kind) -> None:
    alike = np.ones((50, 3), np.float32)
    for x in (alike, alike * np.nan, np.where(np.arange(50)[:, None] < 25, alike, 2 * alike)):
        found = find_clusters(x, np.zeros(3, np.int32), kind=kind)
        assert len(found.bias) == 1
        assert set(found.assign(x)) == {0}
    wild = np.array([[3e38, -3e38, 0]] * 10 + [[1, 2, 3]] * 20 + [[5, 5, 5]] * 20, np.float32)
    found = find_clusters(wild, np.zeros(3, np.int32), kind=kind)
    assert all(np.isfinite(array).all() for array in found)


def test_in_the_second_half_the_experts_are_as_the_first_left_them() -> None:
    stream = open_stream("sea_a", seed=1)
    block = next(stream.blocks(3000))
    model = DriftMoETwoStage(stream.schema, burn_in=300, first_half=1000, mini_batch=100)
    model.step(block.x[:1000], block.y[:1000])
    experts, router = model.pool.snapshot(), model.router.snapshot()[0]["parameters"]
    assert model.router.steps == 0
    model.step(block.x[1000:], block.y[1000:])
    assert model.pool.snapshot()[1] == experts[1]
    assert all(np.array_equal(a, experts[0][name]) for name, a in model.pool.snapshot()[0].items())
    assert model.router.steps == 20
    assert not np.array_equal(model.router.snapshot()[0]["parameters"], router)


@pytest.mark.parametrize("at", [50, 150, 400])
def test_features_and_classes_may_come_in_any_stage(at: int) -> None:
    rng = np.random.default_rng(1)
    model = DriftMoETwoStage(burn_in=100, first_half=300, n_experts=4, mini_batch=32)
    for t in range(600):
        event: dict[str, object] = {"a": float(rng.normal(5.0 * (t % 3))), "b": "red" if t % 2 else "blue"}
        if t >= at:
            event |= {"late": 1.0, "b": "green" if t % 5 else "red"}
        model.learn_one(event, "late" if t >= at and t % 4 == 0 else str(t % 3))
    assert model.schema.n_classes == 4
    assert model.predict_one({"a": 0.0, "b": "blue"}) in {"0", "1", "2", "late"}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variant": "both"}, r"variant: 'both'; choose data or task"),
        ({"clusters": "dbscan"}, r"clusters: 'dbscan'; choose kmeans or gmm"),
        ({"burn_in": 20}, r"burn_in 20 must lie between 2 n_experts \(24\) and first_half \(20000\)"),
        ({"burn_in": 500, "first_half": 400}, r"burn_in 500 must lie .* first_half \(400\)"),
        ({"burn_in": 10**9, "first_half": 10**9}, r"burn_in 1000000000 .* not above 100000"),
        ({"variant": "task", "first_half": 0}, r"first_half: 0; give 1 or more"),
        ({"hidden": 1}, r"hidden: 1; .* give 2 or more"),
        ({"temperature": 0}, r"temperature: 0; give a number above 0"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        DriftMoETwoStage(**settings)  # type: ignore[arg-type]


def test_without_scikit_learn_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.cluster", None)
    with pytest.raises(ConfigError, match=r"needs scikit-learn, .*; pip install 'stream-moe\[two-stage\]'$"):
        build_model("driftmoe-two-stage", SCHEMA)
    DriftMoETwoStage(variant="task")  # which has no clusters
