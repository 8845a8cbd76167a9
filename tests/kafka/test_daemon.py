"""The daemon on a real broker: what it commits equals a replay of the stream, killed or not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka import KafkaProducerLog, KafkaSettings, partition_counts
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.streams import open_stream
from tests.kafka.daemons import finish, run_arguments, stream_moe
from tests.kafka.steps import committed_records

EVENTS = 45_312

pytestmark = pytest.mark.kafka


def mistakes(err: str) -> int:
    """How many lines there are beside those that tell of the start."""
    return len([line for line in err.splitlines() if " stream_moe.cli.start: " not in line])


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tmp_path_factory.mktemp("replay") / "result.json"
    log = path.with_name("drifts.jsonl")
    replay = stream_moe("replay", "electricity", "--json", str(path), "--drift-log", str(log), "--quiet")
    finish(replay, 600)  # it may compile first
    result: dict[str, Any] = json.loads(path.read_text())
    return result | {"drift_lines": log.read_text().splitlines()}


def exact(lines: Iterable[str | bytes]) -> list[Any]:
    """Drifts without those of single trees, which are told to the block only, and without what a file has not."""
    found = [json.loads(line) for line in lines]
    return [{k: v for k, v in drift.items() if k != "timestamp"} for drift in found if drift["scope"] != "expert"]


def assert_equals_replay(settings: KafkaSettings, result: dict[str, Any], replayed: dict[str, Any]) -> None:
    assert result["state_digest"] == replayed["state_digest"]
    assert result["accuracy"] == replayed["accuracy"]
    assert result["log_loss"] == replayed["log_loss"]
    offsets = [json.loads(record.value)["offset"] for record in committed_records(settings, settings.predictions)]
    assert offsets == list(range(EVENTS))  # each exactly once, in the order of the log


def test_the_daemon_equals_a_replay(settings: KafkaSettings, tmp_path: Path, replayed: dict[str, Any]) -> None:
    finish(stream_moe("produce", "electricity", "--bootstrap", settings.bootstrap, "--topic", settings.topic))
    result = tmp_path / "run.json"
    finish(stream_moe(*run_arguments(settings, tmp_path / "state", "--until-caught-up", "--json", str(result))))
    assert_equals_replay(settings, json.loads(result.read_text()), replayed)


def test_killed_in_the_middle_and_restarted(
    settings: KafkaSettings, tmp_path: Path, replayed: dict[str, Any]
) -> None:
    finish(stream_moe("produce", "electricity", "--bootstrap", settings.bootstrap, "--topic", settings.topic))
    result, state = tmp_path / "run.json", tmp_path / "state"
    slow = ["--block-rows", "200", "--checkpoint-events", "6000", "--until-caught-up", "--json", str(result)]
    slow += ["--drifts", drifts := f"{settings.topic}.drifts"]
    killed = 0
    for _ in range(3):
        daemon = stream_moe(*run_arguments(settings, state, *slow))
        before = set(state.rglob("*.ckpt"))
        while daemon.poll() is None and set(state.rglob("*.ckpt")) == before:
            time.sleep(0.01)
        time.sleep(0.3)  # somewhere behind the first new checkpoint
        if daemon.poll() is None:
            os.kill(daemon.pid, signal.SIGKILL)
            killed += 1
        daemon.communicate()
    assert killed == 3, "the daemon was done before it could be killed: make the blocks smaller"
    finish(stream_moe(*run_arguments(settings, state, *slow)))
    final = json.loads(result.read_text())
    assert final["replayed_events"] > 0
    assert_equals_replay(settings, final, replayed)
    assert (
        exact(record.value for record in committed_records(settings, drifts)) == exact(replayed["drift_lines"]) != []
    )


def test_sigterm_drains_and_the_next_run_goes_on(
    settings: KafkaSettings, tmp_path: Path, replayed: dict[str, Any]
) -> None:
    finish(stream_moe("produce", "electricity", "--bootstrap", settings.bootstrap, "--topic", settings.topic))
    state, result = tmp_path / "state", tmp_path / "run.json"
    daemon = stream_moe(*run_arguments(settings, state, "--block-rows", "200"))
    while not list(state.rglob("*.ckpt")):
        time.sleep(0.05)
    time.sleep(0.5)
    daemon.send_signal(signal.SIGTERM)
    finish(daemon)
    drained = [json.loads(record.value)["offset"] for record in committed_records(settings, settings.predictions)]
    assert drained == list(range(len(drained)))
    finish(stream_moe(*run_arguments(settings, state, "--until-caught-up", "--json", str(result))))
    final = json.loads(result.read_text())
    assert final["replayed_events"] == 0  # it had checkpointed where it committed
    assert_equals_replay(settings, final, replayed)


def test_labels_that_come_later_and_records_that_cannot_be_read(settings: KafkaSettings, tmp_path: Path) -> None:
    stream = open_stream("electricity")
    codec = JsonCodec(stream.schema)
    block = next(stream.blocks(2000))
    log = KafkaProducerLog(settings, headers=[schema_header(stream.schema)], create=True)
    for i in range(2000):
        log.send([(str(i).encode(), codec.encode_event(str(i), block.x[i]))])
        if i >= 100:
            name = stream.schema.classes[block.y[i - 100]]
            log.send([(None, json.dumps({"id": str(i - 100), "y": name}).encode())])
        if i % 500 == 0:
            log.send([(b"k", b'{"x": [1, 2'), (b"k", b'{"id": "new", "x": [0,0,0,0,0,0], "y": "SIDEWAYS"}')])
    log.close()
    result = tmp_path / "run.json"
    finish(stream_moe(*run_arguments(settings, tmp_path / "state", "--until-caught-up", "--json", str(result))))
    final = json.loads(result.read_text())
    replay = tmp_path / "replay.json"
    finish(stream_moe("replay", "electricity", "--events", "2000", "--json", str(replay), "--quiet"))
    assert final["predictions"] == 2000
    assert final["labels"] == 1900
    assert final["pending_events"] == 100
    assert final["dead_letters"] == {"bad-json": 4, "unknown-class": 4}
    letters = committed_records(settings, settings.dead_letters)
    assert [letter.value for letter in letters[:2]] == [
        b'{"x": [1, 2', b'{"id": "new", "x": [0,0,0,0,0,0], "y": "SIDEWAYS"}'
    ]  # fmt: skip
    assert len(letters) == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "--state-dir", "STATE", "--bootstrap", "localhost:1"], "localhost:1"),
        (["produce", "electricity", "--bootstrap", "localhost:1"], "localhost:1"),
    ],
)
def test_a_broker_that_is_not_there(arguments: list[str], said: str, tmp_path: Path) -> None:
    arguments = [str(tmp_path) if argument == "STATE" else argument for argument in arguments]
    process = stream_moe(*arguments)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said in err
    assert mistakes(err) == 1, err


def test_a_topic_that_does_not_exist(settings: KafkaSettings, tmp_path: Path) -> None:
    process = stream_moe(*run_arguments(settings, tmp_path / "state"))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3
    assert mistakes(err) == 1, err
    assert settings.topic in err
    outputs = [settings.predictions, settings.dead_letters]
    assert set(partition_counts(settings, outputs).values()) == {0}  # nothing is made for an input that is not there
