"""The command line: results on files, and a user's mistake as one line."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from stream_moe import open_stream, replay
from stream_moe.checkpoints.format import VERSION
from stream_moe.cli.settings import Model
from stream_moe.models.catalogue import model_names

CLI = [sys.executable, "-m", "stream_moe"]


def stream_moe(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from connectors.files import FileCheckpointStore
    from connectors.memory import MemorySink, MemorySource
    from stream_moe.engine.loop import Engine, EngineSettings
    from stream_moe.models.published.data import DriftMoEData
    from tests.unit.test_engine import filled_log

    state, log = tmp_path_factory.mktemp("state"), filled_log()
    source, sink = MemorySource(log, "events", "g"), MemorySink(log, "events", "g")
    Engine(source, sink, lambda _: FileCheckpointStore(state), DriftMoEData, EngineSettings("driftmoe-data")).run()
    return max(state.glob("*.ckpt"))


def test_replay_writes_everything_it_was_asked_for(tmp_path: Path) -> None:
    files = [f"--{kind}={tmp_path / f'out.{kind}'}" for kind in ("json", "csv")]
    arguments = ["replay", "sea_a", "--events", 20_000, "--seed", 3, *files, f"--report={tmp_path / 'out.html'}"]
    done = stream_moe(*arguments)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "out.json").read_text())
    promised = {
        "model", "stream", "events", "seed", "accuracy", "kappa", "kappa_majority", "kappa_temporal", "log_loss",
        "class_recall", "g_mean", "calibration_error", "calibration", "classes", "window_kappa", "window_events",
        "events_per_second", "seconds", "startup_seconds", "peak_memory_bytes", "state_digest", "drifts", "experts",
    }  # fmt: skip
    assert promised <= set(result)
    assert (result["events"], result["seed"], result["stream"]) == (20_000, 3, "sea_a")
    assert 0.8 < result["accuracy"] < 0.9  # the Bayes rate of the stream
    assert {"kind", "accuracy", "routed", "trained", "nodes"} <= set(result["experts"][0])
    assert sum(expert["routed"] for expert in result["experts"]) == 20_000
    rows = (tmp_path / "out.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["events", "5000", "10000", "15000", "20000"]
    assert float(rows[-1].split(",")[2]) == pytest.approx(result["accuracy"])
    page = (tmp_path / "out.html").read_text()
    assert 'id="accuracy"' in page
    assert result["timeline"]["events"][-1] == 20_000
    table = [line.split()[0] for line in done.stdout.splitlines()[1:17]]
    assert table == [f"{2**k:,}" for k in range(15)] + ["20,000"]


@pytest.mark.parametrize("model", model_names())
@pytest.mark.parametrize("delay", [0, 50])
def test_chunks_and_threads_change_no_state(model: str, delay: int) -> None:
    digests = {
        replay(
            open_stream("electricity"),
            Model(name=model, threads=threads).factory(),
            events=1000, chunk=chunk, label_delay=delay,
        ).state_digest
        for chunk, threads in ((7, 1), (4096, 2))
    }  # fmt: skip
    assert len(digests) == 1


@pytest.mark.parametrize("model", ["driftmoe", "driftmoe-two-stage"])
def test_chunks_and_threads_from_the_terminal_change_no_state(model: str, tmp_path: Path) -> None:
    digests, delay = set(), 50
    for number, options in enumerate((["--chunk", 7], ["--chunk", 4096, "--threads", 2])):
        path = tmp_path / f"{number}.json"
        arguments = ["--events", 1000, "--model", model, "--label-delay", delay, "--json", path, *options]
        done = stream_moe("replay", "electricity", *arguments)
        assert done.returncode == 0, done.stderr
        digests.add(json.loads(path.read_text())["state_digest"])
    assert len(digests) == 1


def test_a_column_may_say_how_late_each_label_is(tmp_path: Path) -> None:
    rows = [f"{n % 7},{n % 5},{'yes' if n % 7 > 3 else 'no'},3" for n in range(300)]
    (tmp_path / "late.csv").write_text("\n".join(["a,b,answer,late", *rows]) + "\n")
    (tmp_path / "plain.csv").write_text("\n".join(["a,b,answer", *(row.rpartition(",")[0] for row in rows)]) + "\n")
    found = []
    for name, delay in (("late", "late"), ("plain", 3)):
        out = tmp_path / f"{name}.json"
        arguments = ["--model", "knn", "--label-delay", delay, "--json", out, "--quiet"]
        done = stream_moe("replay", tmp_path / f"{name}.csv", *arguments, f"--report={tmp_path / 'out.html'}")
        assert done.returncode == 0, done.stderr
        found.append(json.loads(out.read_text()))
    assert [result["label_delay"] for result in found] == ["late", 3]
    assert found[0]["state_digest"] == found[1]["state_digest"]
    assert found[0]["log_loss"] == found[1]["log_loss"]


def test_export_then_replay_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rbf.npz"
    assert stream_moe("export", "rbf_f", "--events", 3000, "--seed", 5, "--out", path).returncode == 0
    with np.load(path) as arrays:
        assert (arrays["x"].shape, arrays["x"].dtype) == ((3000, 10), np.float32)
        assert (arrays["y"].shape, arrays["y"].dtype) == ((3000,), np.int32)
    results = []
    for stream in ("rbf_f", path):
        out = tmp_path / "out.json"
        done = stream_moe("replay", stream, "--events", 3000, "--seed", 5, "--json", out, "--quiet")
        assert (done.returncode, done.stdout) == (0, "")
        results.append(json.loads(out.read_text())["state_digest"])
    assert results[0] == results[1]


def test_inspect(checkpoint: Path, tmp_path: Path) -> None:
    shown = stream_moe("inspect", checkpoint)
    assert shown.returncode == 0
    assert re.search(r"next offset +3,000", shown.stdout)
    assert "classes DOWN, UP" in shown.stdout
    assert re.search(r"group/topic/partition +g/events/0", shown.stdout)
    assert re.search(r"parameters +.*top_k=3", shown.stdout)
    assert re.search(r"labels +3,000 received, 3,000 applied, 0 expired", shown.stdout)
    assert re.search(r"^ +11 ( +[\d,.%]+){5}$", shown.stdout, re.M)  # the twelfth expert
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "good.ckpt").write_bytes(checkpoint.read_bytes())
    for name, content in {"cut": checkpoint.read_bytes()[:-1], "empty": b"", "other": b"PK\3\4"}.items():
        (tmp_path / "part" / f"{name}.ckpt").write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    listed = stream_moe("inspect", tmp_path)
    assert listed.returncode == 1
    assert f"good.ckpt: whole, offset 3,000, version {VERSION}, driftmoe-data, g/events/0" in listed.stdout
    for said in ("cut.ckpt: damaged or cut off", "empty.ckpt: empty", "other.ckpt: not a checkpoint"):
        assert said in listed.stderr
    assert len(listed.stderr.splitlines()) == 3
    assert sorted(tmp_path.rglob("*")) == before
    refused = stream_moe("inspect", tmp_path / "part" / "cut.ckpt")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "sha256" in refused.stderr


def test_demo(tmp_path: Path) -> None:
    done = stream_moe("demo", "--json", tmp_path / "demo.json", "--metrics-port", 0)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "demo.json").read_text())
    assert result["predictions"] == 45_312
    assert "stream_moe_accuracy_ratio" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["replay", "no_such_stream"], "no_such_stream"),
        (["replay", "missing.csv"], "missing.csv"),
        (["replay", "led_a"], "--events"),
        (["replay", "electricity", "--model", "forest"], "driftmoe-data"),
        (["replay", "electricity", "--set", "top_k=20"], "top_k"),
        (["replay", "electricity", "--set", "top_k=many"], "top_k"),
        (["replay", "electricity", "--set", "nonsense=1"], "nonsense"),
        (["replay", "electricity", "--set", "nonsense"], "KEY=VALUE"),
        (
            ["replay", "electricity", "--events", "-1"],
            "'--events' '-1': it should be greater than or equal to 1; see",
        ),
        (["replay", "electricity", "--events", "10k"], "'10k': it should be a valid integer"),
        (["replay", "electricity", "--report", "."], ".: is a directory; name a file in it"),
        (["replay", "."], ".: is a directory; name a file in it"),
        (["replay", "electricity", "--chunk", "0"], "chunk"),
        (["replay", "electricity", "--label-delay", "-1"], "--label-delay -1: give 0 or more events, or the name of"),
        (["replay", "electricity", "--label-delay", "late"], "late"),
        (["replay", "electricity", "--device", "tpu"], "tpu"),
        pytest.param(
            ["replay", "electricity", "--device", "cuda"],
            "no CUDA device here; use --device cpu",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device"),
        ),
        (["replay", "electricity", "--model", "hoeffding-tree", "--set", "max_bytes=9"], "max_bytes"),
        (["replay", "electricity", "--json", "no/such/dir/x.json"], "no/such/dir"),
        (["replay", "electricity", "--frobnicate"], "--frobnicate"),
        (["replay", "electricity", "--folds", "1"], "folds"),
        (["replay", "electricity", "--folds", "3", "--csv", "x.csv"], "--folds"),
        (
            ["replay", "electricity", "--folds", "400", "--events", "20", "--model", "knn"],
            "drawn no labelled event; give fewer --folds",
        ),
        (["replay", "electricity", "--workers", "2"], "add --folds"),
        (["replay", "electricity", "--window", "999999999"], "window: 999999999"),
        (["replay", "electricity", "--metric", "Macro"], "river has no 'Macro'"),
        (["audit", "no_such_stream"], "no_such_stream"),
        (["audit", "electricity", "--order", "both"], "both"),
        (["audit", "electricity", "--class", "a:B", "--model", "knn"], "leave --model and --set out"),
        (["export", "sea_a", "--out", "x.npz"], "--events"),
        (["inspect", "missing.ckpt"], "missing.ckpt"),
        (["inspect", "pyproject.toml"], "not a checkpoint: it begins with b'[build-s'; name a .ckpt file"),
        (["run"], "state-dir"),
        (["run", "--state-dir", "x", "--guarantee", "maybe"], "maybe"),
        (["run", "--state-dir", "x", "--config", "missing.toml"], "missing.toml"),
        (["experiment"], "--list"),
        (["experiment", "no-such"], "paper-table"),
        (["experiment", "ablation", "--seeds", "1,1"], "there twice"),
        (["experiment", "ablation", "--seeds", "one"], "one"),
        (["report", "missing.json", "--out", "x.html"], "missing.json: No such file or directory; give a file of"),
        (["report", "pyproject.toml", "--out", "x.html"], "not a result, which is JSON; give a file of `replay"),
        (["report", "missing.json"], "--out"),
        (["sing"], "sing"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str) -> None:
    done = stream_moe(*arguments)
    assert done.returncode != 0
    assert said in done.stderr
    slow = ": this takes longer than 1 s"  # on a machine that has much else to do
    assert len([line for line in done.stderr.splitlines() if not line.endswith(slow)]) == 1, done.stderr


def test_without_arguments_comes_the_help() -> None:
    done = stream_moe()
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^  replay +Score a model on a stream: test each event, then train on it.$", done.stdout, re.M)


def test_a_plain_locale_is_no_obstacle(tmp_path: Path) -> None:
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PATH": os.environ["PATH"]}
    stream = tmp_path / "ströme.csv"
    stream.write_text("a,b,größe\n1,2,ü\n2,1,ö\n")
    files = [f"--json={tmp_path / 'out.json'}", f"--report={tmp_path / 'out.html'}"]
    command = [*CLI, "replay", str(stream), "--model", "no-change", *files]
    done = subprocess.run(command, env=plain, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out.json").read_text())["classes"] == ["ö", "ü"]


def test_more_threads_than_cores_is_one_line_and_no_harm() -> None:
    done = stream_moe("replay", "electricity", "--events", "300", "--threads", "1000", "--quiet")
    assert done.returncode == 0
    assert "--threads 1000: this machine has" in done.stderr


def test_help_needs_no_heavy_import() -> None:
    heavy = {"torch", "numba", "numpy", "kafka", "river"}
    code = f"import sys; from stream_moe import cli; print(*{heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
