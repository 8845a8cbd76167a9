"""A class that hardly ever comes: what a person is told of a model that never finds it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from stream_moe.evaluation.metrics import Prequential
from stream_moe.evaluation.ranking import ranked
from stream_moe.evaluation.scoreboard import Scoreboard
from stream_moe.evaluation.window import SlidingWindow
from stream_moe.plots.run import confusion, run_plots
from stream_moe.report import MOST_CONFUSED, GroupReport, total_quality
from stream_moe.telemetry.board import Board
from stream_moe.telemetry.findings import judge
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.page.live import LivePage
from stream_moe.telemetry.prometheus import Exporter
from stream_moe.telemetry.text import class_rows, least_found
from stream_moe.types import Float64, Int32, Schema
from tests.unit.reports import make_report

CLASSES = ["fair", "fraud"]
EVENTS = 20_000


def fraud(found: float = 0.0) -> tuple[Float64, Int32]:
    """Predictions and labels with 0.7 % of fraud, of which a share is found and the rest answered as fair."""
    y = (np.arange(EVENTS) % 1000 >= 993).astype(np.int32)
    hit = (y == 1) & (np.random.default_rng(2).random(EVENTS) < found)
    return np.where(hit[:, None], [0.2, 0.8], [0.99, 0.01]), y


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, object], str]:
    """What a replay of a stream says in which nothing tells fraud from the rest: text, JSON, page of a report."""
    folder = tmp_path_factory.mktemp("fraud")
    rows = (f"{t % 5},{CLASSES[c]}" for t, c in enumerate(fraud()[1]))
    (folder / "fraud.csv").write_text("\n".join(["amount,class", *rows]) + "\n")
    command = [sys.executable, "-m", "stream_moe", "replay", str(folder / "fraud.csv"), "--model", "hoeffding-tree"]
    command += ["--json", str(folder / "out.json"), "--report", str(folder / "out.html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads((folder / "out.json").read_text()), (folder / "out.html").read_text()


def test_scores_by_class_are_their_definitions() -> None:
    quality = Prequential(3)
    proba = np.eye(3)[[0, 0, 1, 1, 1, 0]]
    quality.update(proba, np.array([0, 0, 0, 1, 1, 1], np.int32))
    report = quality.report()
    assert report.class_recall.tolist() == pytest.approx([2 / 3, 2 / 3, math.nan], nan_ok=True)
    assert report.class_precision.tolist() == pytest.approx([2 / 3, 2 / 3, math.nan], nan_ok=True)
    assert report.class_f1.tolist() == pytest.approx([2 / 3, 2 / 3, math.nan], nan_ok=True)
    assert report.balanced_accuracy == pytest.approx(2 / 3)
    assert report.confusion is not None
    assert report.confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]


def test_a_class_never_named_has_no_precision_and_an_f1_of_zero() -> None:
    quality = Prequential(2)
    quality.update(*fraud())
    report = quality.report()
    assert report.accuracy == pytest.approx(0.993)
    assert report.balanced_accuracy == pytest.approx(0.5)
    assert math.isnan(report.class_precision[1])
    assert (report.class_recall[1], report.class_f1[1]) == (0.0, 0.0)


def test_partitions_together_have_the_scores_of_all_their_events() -> None:
    whole, parts = Prequential(2), [Prequential(2), Prequential(2)]
    proba, y = fraud(0.3)
    whole.update(proba, y)
    for part, rows in zip(parts, (slice(0, 5000), slice(5000, None)), strict=True):
        part.update(proba[rows], y[rows])
    together, alone = total_quality([part.report() for part in parts]), whole.report()
    assert together.balanced_accuracy == alone.balanced_accuracy
    assert together.confusion is not None
    assert np.array_equal(together.confusion, alone.confusion if alone.confusion is not None else [])


def test_of_very_many_classes_no_confusion_is_reported() -> None:
    few, many = Prequential(MOST_CONFUSED).report(), Prequential(MOST_CONFUSED + 1).report()
    assert few.confusion is not None
    assert many.confusion is None
    assert total_quality([many, many]).confusion is None
    assert "confusion" not in Scoreboard(Schema.numeric(1, [str(c) for c in range(MOST_CONFUSED + 1)])).to_dict()


@pytest.mark.parametrize("n_classes", [2, 3, 7])
@pytest.mark.parametrize("digits", [1, 2, 9])  # one digit = ties nearly everywhere
def test_ranking_is_that_of_sklearn(n_classes: int, digits: int) -> None:
    rng = np.random.default_rng(10 * n_classes + digits)
    y = np.where(rng.random(3000) < 0.9, 0, rng.integers(0, n_classes, 3000)).astype(np.int32)
    proba = np.round(rng.dirichlet(np.ones(n_classes), 3000) + 0.1 * np.eye(n_classes)[y], digits)
    window = SlidingWindow(n_classes, 1000)
    for part in np.split(np.arange(3000), [1, 900, 1700]):  # the ring is filled twice, in pieces
        window.update(proba[part], y[part])
    found, last, recent = window.report(), y[-1000:], proba[-1000:]
    classes = [1] if n_classes == 2 else range(n_classes)
    areas = [metrics.roc_auc_score(last == c, recent[:, c]) for c in classes]
    precisions = [metrics.average_precision_score(last == c, recent[:, c]) for c in classes]
    assert found.roc_auc == pytest.approx(np.mean(areas), abs=1e-12)
    assert found.average_precision == pytest.approx(np.mean(precisions), abs=1e-12)
    assert found.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(last, recent.argmax(1)))


def test_ranking_is_unknown_where_one_class_is_alone() -> None:
    fair, both = np.zeros(5, np.int32), np.array([0, 1, 0, 0, 0], np.int32)
    score = np.full((5, 1), 0.3)
    assert all(math.isnan(value) for value in ranked(fair, score))
    assert all(math.isnan(value) for value in ranked(fair[:0], score[:0]))
    assert all(math.isnan(value) for value in ranked(both, score[:, :0]))
    assert ranked(both, score) == pytest.approx((0.5, 0.2))  # all alike: chance, and the share of the class
    scores = Scoreboard(Schema.numeric(1, CLASSES))
    scores.update(np.full((5, 2), 0.5), fair)
    found = scores.to_dict()
    assert (found["window_roc_auc"], found["window_average_precision"]) == (None, None)
    json.dumps(found, allow_nan=False)


def test_the_window_keeps_probabilities_in_bounds() -> None:
    assert all(math.isnan(value) for value in SlidingWindow(33).ranking())
    large = SlidingWindow(32, 10_000_000)
    large.update(np.full((1, 32), 1 / 32), np.array([1], np.int32))
    assert math.isnan(large.report().roc_auc)
    assert large.report().accuracy == 0.0


def test_the_summary_names_what_is_not_found(replayed: tuple[str, dict[str, object], str]) -> None:
    said = replayed[0]
    assert "99.3000%" in said
    assert "balanced        50.0000%" in said
    assert "no better than always naming fair" in said
    rows = {line.split()[0]: line.split()[1:] for line in said.splitlines() if line.strip()}
    assert rows["class"] == ["labels", "predicted", "precision", "recall", "F1"]
    assert rows["fraud"] == ["140", "0", "-", "0.00%", "0.0000"]
    assert rows["fair"][:2] == ["19,860", "20,000"]
    assert "of fraud; last 1,000 labels" in said


def test_the_json_has_the_scores_of_each_class(replayed: tuple[str, dict[str, object], str]) -> None:
    found = replayed[1]
    assert found["balanced_accuracy"] == pytest.approx(0.5)
    assert found["class_precision"] == [pytest.approx(0.993), None]
    assert found["class_f1"] == [pytest.approx(2 * 0.993 / 1.993), 0.0]
    assert found["confusion"] == [[19_860, 0], [140, 0]]
    assert found["window_balanced_accuracy"] == pytest.approx(0.5)


@pytest.mark.parametrize("is_replay", [False, True])
@pytest.mark.parametrize("state", ["running", "stopped"])
def test_the_verdict_is_not_well_where_no_fraud_is_found(is_replay: bool, state: str) -> None:
    tones = {}
    for found in (0.0, 0.5):
        quality = Prequential(2)
        quality.update(*fraud(found))
        report = replace(make_report(classes=2), classes=tuple(CLASSES), quality=quality.report(), lag_seconds=0.0)
        fine = Verdict(True, "the loop turns")
        first = judge([report], GroupReport(state, (3,)), {}, {}, fine, is_replay)[0]
        tones[found] = first.tone, first.state
        if not found:
            assert first.alert == "StreamMoeMajorityOnly"
            assert first.reason == "99.30% right, and always naming fair is 99.30% right; of fraud 0.0% are found"
    assert tones[0.0] == ("warning", "majority only")
    assert tones[0.5][0] in {"good", "note"}


def test_few_labels_are_no_verdict() -> None:
    quality = Prequential(2)
    proba, y = fraud()
    quality.update(proba[:999], y[:999])
    report = replace(make_report(classes=2), classes=tuple(CLASSES), quality=quality.report())
    found = judge([report], GroupReport("running", (3,)), {}, {}, Verdict(True, "the loop turns"), is_replay=True)
    assert found[0].state == "well"


def test_recall_can_be_computed_from_the_metrics() -> None:
    quality, board = Prequential(2), Board()
    quality.update(*fraud(0.5))
    report = quality.report()
    board.update(replace(make_report(classes=2), classes=tuple(CLASSES), quality=report))
    scraped = dict(line.rsplit(" ", 1) for line in Exporter(board).exposition().decode().splitlines() if line)
    right, labels = (float(scraped[f'stream_moe_class_{name}_total{{class="fraud",partition="3"}}'])
                     for name in ("right", "labels"))  # fmt: skip
    assert right / labels == report.class_recall[1]
    assert 0.3 < right / labels < 0.7
    assert float(scraped['stream_moe_balanced_accuracy_ratio{partition="3"}']) == report.balanced_accuracy


def row_of(page: str, name: str) -> list[str]:
    """Cells of the first table row of that name."""
    row = re.search(rf'<th scope="row">{name}</th>(.*?)</tr>', page, re.S)
    assert row is not None
    return re.findall(r"<td[^>]*>(.*?)</td>", row[1])


def test_the_page_shows_each_class_and_the_verdict() -> None:
    quality, board = Prequential(2), Board()
    quality.update(*fraud())
    board.update(replace(make_report(classes=2), classes=tuple(CLASSES), quality=quality.report()))
    page = LivePage(board, lambda: Verdict(True, "the loop turns")).answer("").body.decode()
    assert "<strong>majority only</strong>" in page
    assert row_of(page, "fraud") == ["140", "0", "-", "0.00%", "0.0000"]
    taken = page[page.index("Who is taken for whom") :]
    assert row_of(taken, "fair") == ["100%", "0%"]
    assert row_of(taken, "fraud") == ["100%", "0%"]


def test_the_report_draws_who_is_taken_for_whom(replayed: tuple[str, dict[str, object], str]) -> None:
    assert 'id="confusion"' in replayed[2]
    assert "of class fraud 0.0 % are found" in replayed[2]
    assert "No better than always naming fair." in replayed[2]
    assert row_of(replayed[2], "fraud") == ["140", "0", "-", "0.00%", "0.0000"]
    (plot,) = [plot for plot in run_plots(replayed[1]) if plot.name == "confusion"]
    heat = plot.figure.data[0]
    assert [list(row) for row in heat.z] == [[100.0, 0.0], [100.0, 0.0]]
    assert [list(row) for row in heat.customdata] == [[19_860, 0], [140, 0]]


def test_of_many_classes_the_largest_are_drawn() -> None:
    counts = np.diag(np.arange(60) + 1)
    result = {"confusion": counts.tolist(), "classes": [f"c{c}" for c in range(60)]}
    plot = confusion(result)
    assert len(plot.figure.data[0].z) == 48
    assert "The 48 of 60 classes with most events are shown." in plot.words


def test_of_many_classes_the_table_has_those_found_least() -> None:
    n = 40
    recall: list[float | None] = [None, *(c / n for c in range(1, n))]
    scores: dict[str, Sequence[float | None]] = {f"class_{name}": [1] * n for name in ("labels", "predictions")}
    scores |= {"class_recall": recall, "class_precision": recall, "class_f1": recall}
    rows = class_rows([f"c{c}" for c in range(n)], scores, 12)
    assert [row[0] for row in rows] == [f"c{c}" for c in range(1, 13)]  # not the one that never came
    assert least_found(len(rows), n) == "of 40 classes the 12 with the lowest recall"
    assert least_found(len(class_rows(["a"], {key: each[:1] for key, each in scores.items()}, 12)), 1) == ""
