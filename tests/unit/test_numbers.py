"""A number as the target: its files, its model from Python and on the command line, its scores, and bad input."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from river import datasets, metrics, stats
from river.datasets import synth
from scipy import stats as laws

from stream_moe import DriftMoERegressor, Feature, Schema, Target, build_model, open_stream, replay
from stream_moe.errors import ConfigError, DataError
from stream_moe.evaluation.numbers import NumberScores
from stream_moe.experts.numbers import distribution
from stream_moe.streams.registry import NUMBERS
from stream_moe.streams.river_numbers import GENERATED, PACKAGED
from stream_moe.types import Float32, Float64

SCHEMA = Schema((Feature("a"), Feature("b")), target=Target("load", "kW"))


def line(n: int, seed: int = 1) -> tuple[Float32, Float64]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)).astype(np.float32)
    return x, 3.0 * x[:, 0] - x[:, 1] + 0.1 * rng.normal(size=n)


def stream_moe(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stream_moe", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


# The law.
def test_the_law_is_students_t_with_four_degrees_of_freedom() -> None:
    t = laws.t(4, loc=0.5, scale=2.0)
    for y in (-30.0, 0.2, 0.5, 7.0):
        assert distribution.log_density(y, 0.5, 2.0) == pytest.approx(t.logpdf(y))
        assert distribution.below(y, 0.5, 2.0) == pytest.approx(t.cdf(y))
        draws = t.ppf((np.arange(20_000) + 0.5) / 20_000)
        sorted_gaps = 2 * np.mean(draws * (2 * (np.arange(20_000) + 0.5) / 20_000 - 1))
        crps = np.abs(draws - y).mean() - 0.5 * sorted_gaps
        assert distribution.crps(y, 0.5, 2.0) == pytest.approx(crps, abs=2e-3)
    for p in (0.001, 0.05, 0.5, 0.95):
        assert distribution.standard_quantile(p) == pytest.approx(laws.t(4).ppf(p))
    weights, at, scale = np.array([0.3, 0.7]), np.array([0.0, 5.0]), np.array([1.0, 2.0])
    q = distribution.mixture_quantile(0.9, weights, at, scale, 2)
    assert 0.3 * laws.t(4, 0, 1).cdf(q) + 0.7 * laws.t(4, 5, 2).cdf(q) == pytest.approx(0.9, abs=1e-3)


# Files.
@pytest.mark.parametrize(
    ("labels", "options", "is_number", "said"),
    [
        (
            [f"{i * 0.37:.2f}" for i in range(60)],
            {},
            True,
            "60 different numbers, so a number is predicted; --classes",
        ),
        ([str(i % 500) for i in range(600)], {}, True, "500 different numbers"),
        ([str(i % 24) for i in range(600)], {}, False, "24 different numbers: taken as classes; --number"),
        ([str(i % 24) for i in range(600)], {"classes": False}, True, ""),
        ([str(i % 500) for i in range(600)], {"classes": True}, False, ""),
        ([str(i % 2) for i in range(60)], {}, False, ""),
        ([*(f"{i}.5" for i in range(60)), "", "nan", "-"], {}, True, "60 different"),
        ([*(f"{i}.5" for i in range(60)), "high"], {}, False, ""),
        ([*(f"{i}.5" for i in range(60)), "inf"], {}, True, "infinite"),
    ],
)
def test_a_label_of_many_numbers_is_a_number_and_that_is_said(
    tmp_path: Path, labels: list[str], options: dict[str, Any], is_number: bool, said: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,price\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    stream = open_stream(str(path), **options)
    assert (stream.schema.target is not None) is is_number
    assert said in " ".join(stream.notes)  # type: ignore[attr-defined]
    block = next(stream.blocks(1000))
    if is_number:
        assert stream.schema.target == Target("price")
        assert block.y.dtype == np.float64
        assert np.isfinite(block.y[:60]).all()
        assert np.isnan(block.y[60:63]).all() or len(labels) > 63


def test_text_among_too_many_numbers_is_one_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,price\n" + "".join(f"1,{i}.5\n" for i in range(1500)) + "1,high\n")
    with pytest.raises(DataError, match="'high' is no number; correct it"):
        open_stream(str(path))
    with pytest.raises(DataError, match=r"more than 1,000 different labels .* leave --classes out"):
        open_stream(str(path), classes=True)
    with pytest.raises(DataError, match="'high' in 'price' is no number"):
        open_stream(str(path), classes=False)
    assert open_stream(str(path), missing=["high"]).schema.target is not None


# Streams.
def test_named_streams_are_rivers() -> None:
    assert set(NUMBERS) == {*PACKAGED, *GENERATED}
    block = next(open_stream("trump-approval").blocks(2000))
    events = list(datasets.TrumpApproval())
    assert np.array_equal(block.x, np.array([list(x.values()) for x, _ in events], np.float32))
    assert block.y.tolist() == [y for _, y in events]
    block = next(open_stream("friedman-lea", seed=7).blocks(50))
    events = list(islice(synth.FriedmanDrift(drift_type="lea", position=(25_000, 50_000, 75_000), seed=7), 50))
    assert block.y.tolist() == [y for _, y in events]
    assert any(feature.is_nominal for feature in open_stream("mv").schema.features)
    with pytest.raises(ConfigError, match="comes from river as it is"):
        open_stream("water-flow", label="Flow")


# Scores.
def test_scores_are_those_of_river() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=6000).cumsum()
    answer = y + rng.normal(size=6000)
    answers = np.column_stack([answer, answer - 1.6, answer + 1.6, np.full(6000, 0.8)])
    scores = NumberScores(window=500)
    y[100] = np.nan  # has no label
    for begin in range(0, 6000, 777):
        scores.update(answers[begin : begin + 777], y[begin : begin + 777])
    found, kept = scores.to_dict(), ~np.isnan(y)
    mae, rmse, r2 = metrics.MAE(), metrics.RMSE(), metrics.R2()
    for true, said in zip(y[kept].tolist(), answer[kept].tolist(), strict=True):
        for metric in (mae, rmse, r2):
            metric.update(true, said)
    assert (found["mae"], found["rmse"], found["r2"]) == pytest.approx((mae.get(), rmse.get(), r2.get()))
    inside = np.abs(answer - y)[kept] <= 1.6
    assert found["coverage"] == pytest.approx(inside.mean())
    runs = np.convolve(inside, np.ones(5000), "valid") / 5000
    assert (found["coverage_least"], found["coverage_most"]) == pytest.approx((runs.min(), runs.max()))
    assert found["window_mae"] == pytest.approx(np.abs(answer - y)[kept][-500:].mean())
    last = np.abs(np.diff(y[kept]))
    assert found["mase"] == pytest.approx(np.abs(answer - y)[kept][1:].mean() / last.mean())
    assert found["log_score"] == pytest.approx(-laws.t(4, answer[kept], 0.8).logpdf(y[kept]).mean())


# The model from Python.
def test_a_rule_is_learnt_from_dicts_and_from_frames() -> None:
    pandas = pytest.importorskip("pandas")
    x, y = line(600)
    one, many = DriftMoERegressor(seed=1), DriftMoERegressor(seed=1)
    frame = pandas.DataFrame(x, columns=["a", "b"])
    many.learn_many(frame, pandas.Series(y))
    for row, target in zip(x[:600].tolist(), y.tolist(), strict=True):
        one.learn_one({"a": row[0], "b": row[1]}, target)
    assert one.digest == many.digest
    assert one.predict_one({"a": 1.0, "b": 2.0}) == pytest.approx(1.0, abs=0.3)
    assert many.predict_many(frame).index.equals(frame.index)
    found = one.predict_interval_one({"a": 1.0, "b": 2.0})
    assert found.low < found.answer < found.high  # type: ignore[operator]


def test_a_late_target_meets_what_was_said_of_its_event() -> None:
    x, y = line(400)
    model, block = DriftMoERegressor(SCHEMA, seed=1), DriftMoERegressor(SCHEMA, seed=1)
    forecasts = []
    for t in range(400):
        forecasts.append(model.forecast_one({"a": float(x[t, 0]), "b": float(x[t, 1])}))
        if t >= 20:
            event = {"a": float(x[t - 20, 0]), "b": float(x[t - 20, 1])}
            model.learn_one(event, y[t - 20], ticket=forecasts[t - 20].ticket)
    stream = [
        (x[t], np.nan, t) if not late else (x[t - 20], y[t - 20], t - 20)
        for t in range(400)
        for late in (0, 1)
        if t >= 20 or not late
    ]
    block.step(
        np.array([r for r, _, _ in stream]),
        np.array([t for _, t, _ in stream]),
        tickets=np.array([k for *_, k in stream]),
    )
    assert model.digest == block.digest
    with pytest.raises(DataError, match="was learnt before"):
        model.learn_one({"a": 0.0}, 1.0, ticket=5)


def test_a_model_file_goes_on_where_it_was(tmp_path: Path) -> None:
    x, y = line(300)
    model = DriftMoERegressor(SCHEMA, seed=1, interval=0.8)
    model.learn_many(x, y)
    model.save(tmp_path / "load.model")
    again = DriftMoERegressor.load(tmp_path / "load.model")
    assert (again.digest, again.interval, again.schema) == (model.digest, 0.8, SCHEMA)
    again.learn_many(x, y)
    model.learn_many(x, y)
    assert again.digest == model.digest


def test_what_is_new_makes_it_begin_anew_and_categories_do_not() -> None:
    model = DriftMoERegressor(seed=1)
    for t in range(60):
        model.learn_one({"day": ("mon", "tue")[t % 2], "a": float(t % 7)}, float(t % 7))
    labels = model.report().labels
    model.learn_one({"day": "sun", "a": 1.0}, 1.0)
    assert model.report().labels == labels + 1
    model.learn_one({"day": "sun", "a": 1.0, "wind": 3.0}, 1.0)
    assert model.report().labels == 1
    assert model.schema.n_features == 3


def test_bounds_hold() -> None:
    x, y = line(300)
    schema = Schema(SCHEMA.features, target=Target("load", low=0.0, high=2.0))
    found = DriftMoERegressor(schema, seed=1).step(x, np.clip(y, 0, 2))
    assert found[:, :3].min() == 0.0
    assert found[:, :3].max() == 2.0
    assert Schema.from_dict(schema.to_dict()) == schema


@pytest.mark.parametrize("plain", [{"low": 2, "high": 1}, {"name": 7}, [], {"nam": "y", "low": "x"}])
def test_a_target_that_cannot_be_is_one_line(plain: Any) -> None:
    with pytest.raises(ConfigError, match="schema: target"):
        Schema.from_dict({"features": [{"name": "a"}], "classes": [], "target": plain})


@pytest.mark.parametrize(
    ("name", "schema", "said"),
    [
        ("knn", SCHEMA, "'load' is a number; leave --model out"),
        ("driftmoe-regressor", Schema.numeric(1, ["no", "yes"]), "the label has classes"),
        ("driftmoe", Schema.numeric(1, ["no", "yes"]), ""),
    ],
)
def test_model_and_target_have_to_fit(name: str, schema: Schema, said: str) -> None:
    if said:
        with pytest.raises(ConfigError, match=said):
            build_model(name, schema)
    else:
        assert type(build_model(name, schema)).__name__ == "DriftMoE"
    assert isinstance(build_model("driftmoe", SCHEMA), DriftMoERegressor)
    with pytest.raises(ConfigError, match="without 'trees': no such kind"):
        build_model("driftmoe-regressor", SCHEMA, options={"without": "trees"})


# Bad input.
def test_targets_that_are_no_numbers_harm_nothing() -> None:
    model = DriftMoERegressor(seed=1)
    for t in range(50):
        model.learn_one({"a": float(t)}, 2.0 * t)
    before = model.digest
    for nothing in (None, math.nan, math.inf, -math.inf, 1e300):
        model.learn_one({"a": 1.0}, nothing)  # type: ignore[arg-type]
        assert model.digest == before, nothing
    with pytest.raises(DataError, match="'high' is no number"):
        model.learn_one({"a": 1.0}, "high")  # type: ignore[arg-type]
    assert model.digest == before


@pytest.mark.parametrize("spike", [1e30, -1e30, 1e12, 1e5])
def test_one_target_from_far_away_harms_nothing_after_it(spike: float) -> None:
    x, y = line(3000)
    hit = y.copy()
    hit[1500] = spike
    plain, struck = (DriftMoERegressor(SCHEMA, seed=1).step(x, targets)[:, 0] for targets in (y, hit))
    after = slice(1560, 3000)
    errors = [np.abs(found[after] - y[after]).mean() for found in (plain, struck)]
    assert errors[1] < 1.15 * errors[0]


@pytest.mark.parametrize("factor", [1e6, 1e-6, 1e20])
def test_a_scale_that_changes_is_followed(factor: float) -> None:
    x, y = line(6000)
    y[3000:] *= factor
    found = DriftMoERegressor(SCHEMA, seed=1).step(x, y)
    assert np.isfinite(found).all()
    assert np.abs(found[4500:, 0] - y[4500:]).mean() < 0.25 * factor  # noise alone: 0.08
    inside = (found[4500:, 1] <= y[4500:]) & (y[4500:] <= found[4500:, 2])
    assert 0.8 < inside.mean() < 0.98


@pytest.mark.parametrize("value", [0.0, 7.0, -1e15])
def test_a_constant_target_is_named(value: float) -> None:
    x, _ = line(400)
    found = DriftMoERegressor(SCHEMA, seed=1).step(x, np.full(400, value))
    assert np.isfinite(found).all()
    assert np.allclose(found[5:, 0], value, rtol=1e-9, atol=1e-9)


def test_many_features_are_borne_and_the_one_that_tells_is_found() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2000, 60)).astype(np.float32)
    y = 5.0 * x[:, 53] + 0.1 * rng.normal(size=2000)
    model = DriftMoERegressor(Schema(tuple(Feature(f"x{j}") for j in range(60)), target=Target("y")), seed=1)
    found = model.step(x, y)[:, 0]
    assert np.abs(found - y)[1000:].mean() < 0.3


# The command line.
def test_a_replay_of_a_number_tells_it_from_the_last_value(tmp_path: Path) -> None:
    result = tmp_path / "r.json"
    done = stream_moe("replay", "trump-approval", "--json", result, "--csv", tmp_path / "r.csv")
    assert done.returncode == 0, done.stderr
    assert "the last value 0.1947" in done.stdout
    found = json.loads(result.read_text())
    assert found["mae"] < found["last_mae"]
    assert (found["model"], found["target"]) == ("driftmoe-regressor", "five_thirty_eight")
    assert {"rmse", "r2", "mase", "log_score", "crps", "coverage", "interval_width"} <= found.keys()
    assert 0.85 < found["coverage"] < 0.95
    digests = set()
    for options in (["--chunk", 7], ["--chunk", 1000]):
        done = stream_moe("replay", "trump-approval", "--json", result, "--label-delay", 5, "--quiet", *options)
        assert done.returncode == 0, done.stderr
        late = json.loads(result.read_text())
        digests.add((late["state_digest"], late["mae"]))
        assert late["mae"] > found["mae"]
    assert len(digests) == 1


def test_what_takes_no_numbers_yet_says_so(tmp_path: Path) -> None:
    for verb in (
        ["replay", "water-flow", "--report", tmp_path / "r.html"],
        ["replay", "water-flow", "--model", "knn"],
        ["replay", "water-flow", "--cost", "a:b=3"],
        ["replay", "water-flow", "--metric", "MacroF1"],
        ["produce", "water-flow"],
        ["export", "water-flow", "--out", tmp_path / "w.npz"],
        ["audit", "water-flow"],
    ):
        done = stream_moe(*verb)
        assert done.returncode == 2, verb
        assert "number" in done.stderr, verb
        lines = [text for text in done.stderr.splitlines() if "takes longer than" not in text]
        assert len(lines) == 1, done.stderr


def test_the_replay_of_a_made_stream_scores_what_the_model_said() -> None:
    result = replay(open_stream("friedman", seed=3), lambda schema: build_model("driftmoe", schema), events=3000)
    block = next(open_stream("friedman", seed=3).blocks(3000))
    said = DriftMoERegressor(open_stream("friedman", seed=3).schema, seed=1).step(
        block.x, np.asarray(block.y, np.float64)
    )[:, 0]
    mean = stats.Mean()
    for error in np.abs(said - block.y).tolist():
        mean.update(error)
    assert result.scores["mae"] == pytest.approx(mean.get())


def test_a_daemon_says_that_it_takes_no_number_yet(tmp_path: Path) -> None:
    from connectors.files import FileCheckpointStore
    from connectors.memory import MemorySink, MemorySource
    from stream_moe.engine.loop import Engine, EngineSettings
    from tests.unit.test_engine import filled_log

    log = filled_log()
    ports = MemorySource(log, "events", "g"), MemorySink(log, "events", "g"), lambda _: FileCheckpointStore(tmp_path)
    settings = EngineSettings("driftmoe")
    engine = Engine(*ports, lambda schema: build_model("driftmoe", schema), settings, schema=SCHEMA)
    with pytest.raises(ConfigError, match="'load' is a number, and a daemon learns classes so far"):
        engine.run()
