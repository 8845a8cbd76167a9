"""`replay --serve`: the page and /metrics while a replay runs and after it, and what it says when it cannot."""

from __future__ import annotations

import signal
import socket
import subprocess
import urllib.request

import pytest

from tests.unit.test_cli import CLI, stream_moe

REPLAY = ["replay", "electricity", "--model", "hoeffding-tree", "--events", "5000"]


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return str(answer.read().decode())


def test_a_served_replay_stays_until_interrupted_and_learns_the_same() -> None:
    command = [*CLI, *REPLAY, "--serve", "--serve-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    said = list[str]()
    for line in process.stdout:
        said.append(line)
        if "stays at" in line:
            break
    url = next(word for word in said[-1].split() if word.startswith("http"))
    page, metrics = fetch(url), fetch(f"{url}metrics")
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=120)
    assert (process.returncode, rest) == (0, "")
    assert [" settings command=replay " in line for line in errors.splitlines()] == [True]
    assert "<strong>finished</strong>" in page
    assert "replay of electricity" in page
    assert '<dd class="big">100%</dd>' in page
    assert '\nstream_moe_events_consumed_total{partition="0"} 5000.0\n' in metrics
    alone = stream_moe(*REPLAY).stdout
    state = next(line for line in alone.splitlines() if line.startswith("  state "))
    assert f"{state}\n" in said


def test_it_leaves_at_the_end_when_told_to() -> None:
    done = stream_moe(*REPLAY, "--serve", "--serve-port", "0", "--no-hold", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("more", "named"),
    [
        (["--serve-port", "9000"], "add --serve"),
        (["--serve", "--folds", "3"], "--serve and --metric are of one learner"),
        (["--serve", "--serve-port", "70000"], "--serve-port"),
    ],
)
def test_a_mistake_is_one_line(more: list[str], named: str) -> None:
    done = stream_moe(*REPLAY, *more)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert named in done.stderr


def test_a_port_in_use_is_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = stream_moe(*REPLAY, "--serve", "--serve-port", port)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"127.0.0.1:{port}" in done.stderr
    assert "--serve-port (0 = any free one)" in done.stderr
    assert "--metrics" not in done.stderr
