"""What a run shows: on a real pseudo-terminal the live view, elsewhere rows, and logs that a program can read."""

from __future__ import annotations

import io
import itertools
import json
import re
import subprocess
import sys
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr
from rich.cells import cell_len
from rich.console import Console

from stream_moe.cli.live import LiveView
from stream_moe.cli.outputs import Flow, Standing, timed_marks
from stream_moe.cli.start import log_settings
from stream_moe.report import ExpertReport, LearnerReport, QualityReport
from stream_moe.telemetry.logs import setup_logging
from tests.terminal import Terminal

CLI = [sys.executable, "-m", "stream_moe"]
ENDLESS = ["replay", "sea_a", "--events", "100000000000", "--model", "naive-bayes"]
NUMBERS = re.compile(r"events ([\d,]+) of .*?accuracy ([\d.]+)%.*?log-loss ([\d.]+).*?kappa ([\d.]+)", re.S)


def standing(events: int, right: float, n_experts: int = 24, drifts: int = 0) -> Standing:
    counts = np.zeros(2, np.int64)
    quality = QualityReport(events, right, right, right, right, -1e4, 12.5, counts, counts, counts)
    experts = [
        ExpertReport("averaged-softmax", events * (e == 3), events, right, right, drifts=drifts, asleep=e % 2 == 1)
        for e in range(n_experts)
    ]
    table = np.zeros((n_experts, 2), np.int64)
    learner = LearnerReport(experts, table, 0.5, 0.5, 0.5, 0.5, 0.1, mixture_drifts=drifts, last_mixture_drift=events)
    flow = Flow(1000, events, 10**9, 10**12, 1e9, {"feature": 10**6, "label": drifts}, checkpoint_time=0.0)
    return Standing(events, 1.0, quality, learner, flow)


def live_view(columns: int, encoding: str = "utf-8") -> LiveView:
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = Console(file=file, force_terminal=True, width=columns, height=24)
    seconds = itertools.count()  # each look at the clock is a second later: every update is due
    return LiveView("ströme.csv   driftmoe, seed 1", 10**12, console, clock=lambda: float(next(seconds)))


@pytest.mark.parametrize("columns", [1, 10, 40, 80, 200])
@pytest.mark.parametrize("rows", [2, 10, 24])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_view_fits_any_terminal(columns: int, rows: int, encoding: str) -> None:
    view = live_view(columns, encoding)
    for n in range(1, 400):
        view.progress(standing(10**9 * n, n % 100 / 100, drifts=n // 100))
    lines = view.frame(columns, rows)
    assert len(lines) <= max(rows - 1, 1)
    for line in lines:
        assert cell_len(line.plain) <= columns
        line.plain.encode(encoding)


def test_marks_come_at_even_times_whatever_the_speed() -> None:
    now = 0.0
    marks = timed_marks(0.25, lambda: now)
    moments, before = deque[float](maxlen=20), 0
    for mark in marks:
        now += (mark - before) / (50_000 if now < 20 else 5_000)  # seconds for these events; the stream slows down
        before = mark
        moments.append(now)
        if now > 60:
            break
    assert np.diff(moments) == pytest.approx(0.25, rel=0.1)


def test_an_interrupted_view_says_how_far_it_came(tmp_path: Path) -> None:
    with Terminal([*CLI, *ENDLESS], NO_COLOR="1") as terminal:
        terminal.wait_for(lambda: "accuracy" in "\n".join(terminal.lines))
        terminal.resize(40, 20)
        terminal.wait_for(lambda: any(line.startswith("log-loss") for line in terminal.lines))
        terminal.type("\x03")
        assert terminal.wait() == 130
    shown = "\n".join(terminal.lines)
    assert shown.rstrip().endswith("stream-moe: interrupted")
    assert sum("sea_a" in line for line in terminal.lines) == 1  # nothing is left of the frames before
    assert not re.search(rb"\x1b\[[\d;]*[34]\d", terminal.raw)  # no colour
    assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")  # the cursor is there again
    events, accuracy, log_loss, kappa = NUMBERS.findall(shown)[-1]
    out = tmp_path / "out.json"
    again = [
        *ENDLESS[:2],
        "--model",
        "naive-bayes",
        "--events",
        events.replace(",", ""),
        "--json",
        str(out),
        "--quiet",
    ]
    subprocess.run([*CLI, *again], check=True)
    result = json.loads(out.read_text())
    assert accuracy == f"{100 * result['accuracy']:.2f}"
    assert (log_loss, kappa) == (f"{result['log_loss']:.4f}", f"{result['kappa']:.4f}")


def test_logs_go_above_the_view_and_the_summary_stays() -> None:
    with Terminal(
        [*CLI, "demo", "--rate", "2000", "--hold", "--metrics-port", "0", "--model", "naive-bayes"]
    ) as terminal:
        terminal.wait_for(lambda: any("lag" in line for line in terminal.lines))
        terminal.type("\x03")
        assert terminal.wait() == 0
    shown = terminal.everything
    for line in ("partitions assigned: 0", "stream-moe: SIGINT: finishing the block", "naive-bayes on electricity"):
        assert sum(line in each for each in shown) == 1, "\n".join(shown)
    assert not any("elapsed" in line for line in shown)  # the view itself is gone


def test_a_terminal_that_cannot_gets_the_table() -> None:
    with Terminal([*CLI, "replay", "electricity", "--events", "64", "--model", "no-change"], TERM="dumb") as terminal:
        assert terminal.wait() == 0
    assert b"\x1b" not in terminal.raw
    assert [line.split()[0] for line in terminal.everything if re.match(r" +\d+ +\d", line)][:7] == [
        "1", "2", "4", "8", "16", "32", "64",
    ]  # fmt: skip


def test_json_logs_are_settings_progress_and_result() -> None:
    arguments = ["replay", "electricity", "--events", "100", "--model", "knn", "--set", "k=3", "--json-logs"]
    done = subprocess.run([*CLI, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    said = [json.loads(line) for line in done.stderr.splitlines()]
    settings, *rows, end = [line for line in said if not line["message"].startswith("compiling")]  # on a new machine
    wanted = {"message": "settings", "command": "replay", "model": "knn", "set.k": "3", "seed": 1, "events": 100}
    assert settings.items() >= wanted.items()
    assert settings.keys() >= {"version", "python", "numba", "torch", "threads", "device", "cores"}
    assert [row["events"] for row in rows] == [1, 2, 4, 8, 16, 32, 64, 100]
    assert (end["message"], end["accuracy"]) == ("done", rows[-1]["accuracy"])


@pytest.mark.parametrize("json_lines", [False, True])
def test_settings_show_no_secret(
    json_lines: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_moe.runtime.compiled.is_cold", lambda: False)
    setup_logging(json=json_lines)
    log_settings("run", {"sasl_password": SecretStr("hush"), "state_dir": "s3://me:hush@store/x", "api_key": "hush"})
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert "hush" not in said
    assert said.count("***") == 3


def test_a_start_that_compiles_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_logging()
    monkeypatch.setattr("stream_moe.runtime.compiled.cache_directory", lambda: str(tmp_path))
    log_settings("replay", {})
    assert "compiling the experts, once on this machine" in capsys.readouterr().err
    (tmp_path / "moe").mkdir()
    (tmp_path / "moe" / "step.nbi").touch()
    log_settings("replay", {})
    assert "compiling" not in capsys.readouterr().err
