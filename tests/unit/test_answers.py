"""Which class is answered: costs and thresholds, decided from the probabilities and from nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from typer.testing import CliRunner

from connectors.files import FileCheckpointStore
from connectors.memory import EOF, MemoryLog, MemorySink, MemorySource, Record
from stream_moe import CostSensitiveClassifier, DriftMoE, build_model
from stream_moe.answers import AnswerRule, Answers
from stream_moe.cli import app, main
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.engine.replay import replay
from stream_moe.errors import ConfigError
from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.window import SlidingWindow
from stream_moe.report import GroupReport, PartitionReport, total_quality
from stream_moe.streams import open_stream
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.findings import judge
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.page.live import LivePage
from stream_moe.telemetry.prometheus import Exporter
from tests.unit.reports import make_report
from tests.unit.test_engine import BLOCK, CODEC, STREAM

CLASSES = ["fair", "fraud"]
FINE = Verdict(True, "the loop turns")
DEAR = "UP:DOWN=4,DOWN:UP=1"
PROBA = arrays(np.float64, st.tuples(st.integers(1, 20), st.just(3)), elements=st.floats(0.01, 1)).map(
    lambda p: p / p.sum(1, keepdims=True)
)


@settings(max_examples=100, deadline=None)
@given(PROBA, arrays(np.float64, (3, 3), elements=st.floats(0, 100)))
def test_the_answer_has_the_least_expected_cost(proba: Any, costs: Any) -> None:
    answers = Answers(costs).of(proba)
    expected = proba @ costs
    assert (expected[np.arange(len(proba)), answers] <= expected.min(1) + 1e-9).all()
    assert Answers(costs).of(proba[:1]).tolist() == answers[:1].tolist()


@settings(max_examples=100, deadline=None)
@given(PROBA, st.integers(0, 2), st.floats(0, 1))
def test_a_threshold_names_its_class_from_there_on(proba: Any, chosen: int, least: float) -> None:
    answers = Answers.threshold(chosen, least, 3).of(proba)
    others = np.delete(np.arange(3), chosen)[np.delete(proba, chosen, axis=1).argmax(1)]
    assert answers.tolist() == np.where(proba[:, chosen] >= least, chosen, others).tolist()


@settings(max_examples=50, deadline=None)
@given(PROBA)
def test_without_a_rule_it_is_the_most_probable(proba: Any) -> None:
    rule = AnswerRule.read("a:b=1")
    assert Answers().of(proba).tolist() == proba.argmax(1).tolist()
    near = np.sort(proba, 1)[:, -1] - np.sort(proba, 1)[:, -2] < 1e-9  # sums round
    assert ((rule.over(["a", "b", "c"]).of(proba) == proba.argmax(1)) | near).all()


def test_of_two_classes_a_threshold_is_a_ratio_of_costs() -> None:
    p = np.linspace(0, 1, 1001)
    proba = np.stack([1 - p, p], 1)
    by_cost = AnswerRule.read("fraud:fair=9,fair:fraud=1").over(CLASSES).of(proba)
    by_threshold = AnswerRule.read(threshold="fraud=0.1").over(CLASSES).of(proba)
    assert (by_cost != by_threshold).sum() <= 1  # at the very threshold costs are equal
    assert by_threshold.sum() == 901


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("costs.toml", "[fraud]\nfair = 10\n[fair]\nfraud = 1\nfair = 0\n"),
        ("costs.csv", "truth,fair,fraud\nfair,0,1\nfraud,10,\n"),
        (None, "fraud:fair=10, fair:fraud=1,fair:fair=0"),
    ],
)
def test_costs_are_read_from_files_and_words(tmp_path: Path, name: str | None, text: str) -> None:
    if name is not None:
        (tmp_path / name).write_text(text)
        text = str(tmp_path / name)
    costs = AnswerRule.read(text).over(CLASSES).costs
    assert costs is not None
    assert costs.tolist() == [[0, 1], [10, 0]]


def test_names_are_matched_as_everywhere_and_may_stand_in_quotes() -> None:
    costs = AnswerRule.read('"1:a,b=3"').over(["1.0", "a,b"]).costs
    assert costs is not None
    assert costs.tolist() == [[0, 3], [1, 0]]


WRONG = [
    (["--cost", "fraud:fair=-1"], "cost: fraud:fair=-1: a cost is a number that is not below 0"),
    (["--cost", "fraud:fair=x"], "cost: fraud:fair=x: a cost is a number"),
    (["--cost", "fraud=3"], "cost: 'fraud=3': write truth:answer=cost"),
    (["--cost", "UP:DOWN=1,UP:DOWN=2"], "cost: UP:DOWN=2: this pair has a cost already"),
    (["--cost", ""], "cost: "),
    (["--cost", "fraud:fair=1"], "cost: 'fraud' is no class; the classes are DOWN, UP"),
    (["--cost", "nowhere.toml"], "cost: nowhere.toml: No such file"),
    (["--threshold", "UP=1.5"], "threshold: UP=1.5: a probability is a number from 0 to 1"),
    (["--threshold", "UP=nan"], "threshold: UP=nan: a probability is a number from 0 to 1"),
    (["--threshold", "UP"], "threshold: 'UP': write it as CLASS=P"),
    (["--threshold", "fraud=0.5"], "threshold: 'fraud' is no class"),
    (["--threshold", "UP=0.5", "--cost", "UP:DOWN=2"], "one rule decides; give one of them"),
    (["--class-weight", "fraud=2"], "class weight: 'fraud' is no class; the classes are DOWN, UP"),
    (["--class-weight", "UP=-2"], "class weight: UP=-2.0: a weight is a number from 0 to 1,000,000"),
    (["--class-weight", "UP=nan"], "class weight: UP=nan: a weight is a number"),
    (["--class-weight", "UP"], "--class-weight 'UP': write it as CLASS=W, W a number"),
    (["--class-weight", "UP=2", "--model", "driftmoe-data"], "driftmoe-data: takes no class weights here"),
    (["--class-weight", "UP=2", "--model", "river:GaussianNB"], "river:GaussianNB: takes no class weights here"),
]


@pytest.mark.parametrize(("options", "said"), WRONG, ids=[" ".join(case[0]) for case in WRONG])
def test_a_mistake_is_one_line(
    options: list[str], said: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["stream-moe", "replay", "electricity", "--events", "10", "--quiet", *options])
    with pytest.raises(SystemExit) as left:
        main()
    lines = capfd.readouterr().err.strip().splitlines()
    assert left.value.code == 2
    assert len(lines) == 1
    assert said in lines[0]


@pytest.mark.parametrize("text", ["[fraud", "fraud = 3", "[fraud]\nfair = true\n"])
def test_a_broken_file_of_costs_is_told(tmp_path: Path, text: str) -> None:
    (tmp_path / "costs.toml").write_text(text)
    with pytest.raises(ConfigError, match="cost: "):
        AnswerRule.read(str(tmp_path / "costs.toml"))
    (tmp_path / "costs.csv").write_text("truth,fair\nfair,1,2\n")
    with pytest.raises(ConfigError, match="no matrix"):
        AnswerRule.read(str(tmp_path / "costs.csv"))


@pytest.mark.parametrize("delay", [0, 300])
def test_the_state_does_not_depend_on_the_rule_and_the_scores_are_of_the_answers(delay: int) -> None:
    make = partial(build_model, "naive-bayes")
    plain = replay(STREAM, make, events=3000, label_delay=delay)
    ruled = [
        replay(STREAM, make, events=3000, label_delay=delay, answers=rule, chunk=chunk)
        for rule in (AnswerRule.read(DEAR), AnswerRule.read(threshold="UP=0.2"))
        for chunk in (4096, 7)
    ]
    assert {found.state_digest for found in ruled} == {plain.state_digest}
    assert ruled[0].scores == ruled[1].scores
    for found in ruled:
        quality = found.quality
        assert quality.confusion is not None
        assert quality.class_recall[1] > plain.quality.class_recall[1]
        assert quality.log_loss == plain.quality.log_loss
        assert found.scores["calibration"] == plain.scores["calibration"]
        assert found.scores["window_roc_auc"] == plain.scores["window_roc_auc"]
        assert found.scores["mean_cost"] == pytest.approx(found.scores["cost"] / quality.events)
    confusion = ruled[0].quality.confusion
    assert confusion is not None
    assert ruled[0].scores["cost"] == confusion[0, 1] + 4 * confusion[1, 0]
    labels = ruled[0].quality.class_labels / ruled[0].quality.events
    assert ruled[0].scores["class_costs"] == pytest.approx([4 * labels[1], labels[0]])
    assert "cost" not in plain.scores


def test_costs_of_partitions_add_up() -> None:
    reports = []
    for seed in range(2):
        quality = Prequential(2, AnswerRule.read("fraud:fair=9").over(CLASSES))
        rng = np.random.default_rng(seed)
        quality.update(rng.dirichlet([1, 1], 500), rng.integers(0, 2, 500).astype(np.int32))
        reports.append(quality.report())
    whole = total_quality(reports)
    assert whole.cost == sum(each.cost or 0 for each in reports)
    assert whole.class_costs is not None
    each = [report.class_costs for report in reports if report.class_costs is not None]
    assert whole.class_costs.tolist() == np.sum(each, axis=0).tolist()


def test_the_window_scores_the_answers() -> None:
    recent = SlidingWindow(2, answers=AnswerRule.read(threshold="fraud=0.1").over(CLASSES))
    recent.update(np.array([[0.85, 0.15], [0.95, 0.05]]), np.array([1, 0], np.int32))
    assert recent.report().accuracy == 1.0


def test_the_summary_and_the_json_have_the_costs(tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    said = CliRunner().invoke(
        app,
        ["replay", "electricity", "--model", "naive-bayes", "--events", "3000", "--cost", DEAR, "--json", str(out)],
    )
    assert said.exit_code == 0, said.output
    found = json.loads(out.read_text())
    assert found["answers"] == "cost UP:DOWN=4,DOWN:UP=1"
    assert "  answers         cost UP:DOWN=4,DOWN:UP=1\n" in said.stdout
    assert (
        f"  cost            {found['mean_cost']:.4f} an answer ({found['cost']:,.1f} in all); always naming "
        in said.stdout
    )


# ---- the daemon


def make_engine(log: MemoryLog, state: Path, rule: AnswerRule, reports: list[PartitionReport]) -> Engine:
    return Engine(
        MemorySource(log, "events", "group"),
        MemorySink(log, "events", "group"),
        lambda _: FileCheckpointStore(state),
        lambda schema: build_model("naive-bayes", schema),
        EngineSettings("naive-bayes", block_rows=100, checkpoint_events=500, answers=rule),
        schema=STREAM.schema,
        on_report=reports.append,
    )


def filled() -> MemoryLog:
    log = MemoryLog()
    for i, value in enumerate(CODEC.encode_events(BLOCK)):
        log.append("events", Record(value, str(i).encode(), i, ()))
    log.append("events", EOF)
    return log


def test_the_daemon_answers_by_the_rule_and_says_by_which(tmp_path: Path) -> None:
    digests, classes, probabilities = [], [], []
    for name, rule in (("plain", AnswerRule()), ("dear", AnswerRule.read(DEAR))):
        log, reports = filled(), list[PartitionReport]()
        engine = make_engine(log, tmp_path / name, rule, reports)
        engine.run()
        digests.append(engine.tasks[0].learner.digest)
        plain = [json.loads(record.value or b"") for record in log.records("predictions")]
        classes.append([each["class"] for each in plain])
        probabilities.append(np.array([each["proba"] for each in plain]))
        assert engine.tasks[0].config_hash == "" or engine.tasks[0].config_hash
        newest = max((tmp_path / name).glob("*.ckpt"))
        said = CliRunner().invoke(app, ["inspect", str(newest)]).stdout
        assert f"answers                {rule.text or 'the most probable class'}\n" in said
        board = Board()
        board.update(replace(reports[-1], state="running"))
        board.update_group(GroupReport("running", (0,)))
        scrape = Exporter(board).exposition().decode()
        page = LivePage(board, lambda: FINE).answer("").body.decode()
        assert f'answers_info{{partition="0",rule="{rule.text or "most probable class"}"}} 1.0' in scrape
        assert ("answers by cost UP:DOWN=4,DOWN:UP=1" in page) == bool(rule.text)
        assert ('stream_moe_mean_cost{of="answers",partition="0"}' in scrape) == bool(rule.text)
    assert digests[0] == digests[1]
    assert (probabilities[0] == probabilities[1]).all()
    assert classes[0].count("UP") < classes[1].count("UP")
    margin = np.abs(4 * probabilities[1][:, 1] - probabilities[1][:, 0]) > 1e-4  # they are rounded to six digits
    wanted = np.where(4 * probabilities[1][:, 1] > probabilities[1][:, 0], "UP", "DOWN")
    assert (np.array(classes[1])[margin] == wanted[margin]).all()


def test_a_daemon_may_go_on_by_another_rule(tmp_path: Path) -> None:
    log, reports = filled(), list[PartitionReport]()
    first = make_engine(log, tmp_path, AnswerRule(), reports)
    first.run()
    log.append("events", EOF)
    second = make_engine(log, tmp_path, AnswerRule.read(threshold="UP=0.3"), reports)
    second.run()
    assert second.tasks[0].recovery.checkpoint is not None
    assert second.tasks[0].learner.digest == first.tasks[0].learner.digest
    assert reports[-1].answers == "threshold UP=0.3"
    assert reports[-1].replay_divergences == 0


def test_a_rule_of_another_schema_stops_the_daemon_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'fraud' is no class"):
        make_engine(filled(), tmp_path, AnswerRule.read("fraud:UP=3"), []).run()


@pytest.mark.parametrize(("proba", "alert"), [(0.08, ""), (0.02, "StreamMoeMajorityOnly")])
def test_the_verdict_is_by_the_costs(proba: float, alert: str) -> None:
    y = (np.arange(20_000) % 1000 >= 993).astype(np.int32)
    quality = Prequential(2, AnswerRule.read("fraud:fair=20").over(CLASSES))
    quality.update(np.where(y[:, None] == 1, [1 - proba, proba], [0.99, 0.01]), y)
    report = replace(make_report(classes=2), classes=tuple(CLASSES), quality=quality.report(), lag_seconds=0.0)
    first = judge([report], GroupReport("running", (3,)), {}, {}, FINE)[0]
    assert first.alert == alert
    if alert:
        assert first.reason == ("answers cost 0.1400 each, always naming fair 0.1400; of fraud 0.0% are found")


# ---- Python


def test_a_wrapper_of_river_answers_by_the_rule() -> None:
    from river import datasets, evaluate, metrics, naive_bayes

    plain, dear = (
        naive_bayes.GaussianNB(),
        CostSensitiveClassifier(naive_bayes.GaussianNB(), cost={(True, False): 50}),
    )
    scores = [
        evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Recall()).get() for model in (plain, dear)
    ]
    assert scores[1] > scores[0]
    again = dear.clone()
    assert again.cost == {(True, False): 50}
    assert again.predict_one({}) is None


def test_the_wrapper_learns_what_the_model_alone_learns() -> None:
    from river import datasets

    alone, wrapped = DriftMoE(seed=1), CostSensitiveClassifier(DriftMoE(seed=1), threshold={True: 0.01})
    for x, y in datasets.Phishing().take(300):
        wrapped.predict_one(x)
        alone.learn_one(x, y)
        wrapped.learn_one(x, y)
    assert wrapped.classifier.digest == alone.digest
    x, _ = next(iter(datasets.Phishing()))
    assert wrapped.predict_proba_one(x) == alone.predict_proba_one(x)
    assert wrapped.predict_one(x) is True


def test_the_wrapper_takes_frames_and_arrays() -> None:
    import pandas as pd  # type: ignore[import-untyped]

    stream = open_stream("electricity")
    block = next(stream.blocks(500))
    model = CostSensitiveClassifier(build_model("naive-bayes", stream.schema), cost={("UP", "DOWN"): 4})
    model.learn_many(block.x, block.y)
    proba = model.predict_proba_many(block.x)
    wanted = np.where(4 * proba[:, 1] > proba[:, 0], 1, 0)
    assert model.predict_many(block.x).tolist() == wanted.tolist()
    frame = pd.DataFrame(block.x, columns=[feature.name for feature in stream.schema.features])
    assert model.predict_many(frame).tolist() == [stream.schema.classes[c] for c in wanted]


@pytest.mark.parametrize(
    "given",
    [{}, {"cost": {("a", "b"): 1}, "threshold": {"a": 1}}, {"cost": {"a": 1}}, {"cost": {("a", "b"): -1}},
     {"threshold": {"a": 2}}, {"threshold": {"a": 0.1, "b": 0.2}}, {"cost": {}}],
)  # fmt: skip
def test_a_wrong_rule_of_a_wrapper_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        CostSensitiveClassifier(DriftMoE(seed=1), **given)
