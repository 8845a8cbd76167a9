"""Several partitions and several daemons on a real broker: every record once, every state as if nothing happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaAdminClient, TopicPartition

from connectors.kafka import KafkaProducerLog, KafkaSettings
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import RecordBatch
from tests.kafka.steps import CommitWatcher
from tests.kafka.test_daemon import finish, run_arguments

pytestmark = pytest.mark.kafka

MODEL, PARTITIONS = "hoeffding-tree", 4
STREAM = open_stream("electricity")
CODEC = JsonCodec(STREAM.schema)
# A topic that grows is noticed within a second, and so is a member that is gone.
CLI = [
    sys.executable,
    "-c",
    "import faulthandler, signal; faulthandler.register(signal.SIGUSR1)\n"  # a member that hangs says where
    "import connectors.kafka.source as source; source.METADATA_SECONDS, source.SESSION_SECONDS = 1.0, 6.0\n"
    "from stream_moe.cli import main; main()",
]


def produce(settings: KafkaSettings, start: int, count: int, partitions: int = PARTITIONS) -> None:
    block = next(STREAM.blocks(start + count))
    values = CODEC.encode_events(block)
    log = KafkaProducerLog(settings, headers=[schema_header(STREAM.schema)], create=True, partitions=partitions)
    log.send((str(i).encode(), values[i]) for i in range(start, start + count))
    log.close()


class Members:
    """Daemons of one group, each with a state that all of them see; whatever is left is killed at the end."""

    def __init__(self, settings: KafkaSettings, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self._all: list[subprocess.Popen[str]] = []

    def start(self, *more: str) -> subprocess.Popen[str]:
        result = self.folder / f"{len(self._all)}.json"
        arguments = run_arguments(
            self.settings, self.folder / "state", "--model", MODEL, "--json", str(result), *more
        )
        with self._log(len(self._all)).open("w") as log:
            process = subprocess.Popen([*CLI, *arguments], stdout=log, stderr=log, text=True)
        self._all.append(process)
        return process

    def _log(self, number: int) -> Path:
        return self.folder / f"{number}.log"

    def result(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """Wait for the end of a member; what it says of itself."""
        number = self._all.index(process)
        try:
            code = process.wait(90)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            code = None
        assert code == 0, self._log(number).read_text()
        found: dict[str, Any] = json.loads((self.folder / f"{number}.json").read_text())
        return found

    def close(self) -> None:
        for process in self._all:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def members(settings: KafkaSettings, tmp_path: Path) -> Iterator[Members]:
    group = Members(settings, tmp_path)
    yield group
    group.close()


class Watcher(CommitWatcher):
    """Waits for what is committed of each partition."""

    def wait(self, at_least: list[int], seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while any(done < wanted for done, wanted in zip(self.committed(len(at_least)), at_least, strict=True)):
            assert time.monotonic() < deadline, f"{self.committed(len(at_least))} of {at_least} after {seconds} s"
            time.sleep(0.1)

    def ends(self, partitions: int = PARTITIONS) -> list[int]:
        places = [TopicPartition(self._settings.topic, partition) for partition in range(partitions)]
        self._consumer.topics()  # or it would not know of a partition that was just added
        ends = self._consumer.end_offsets(places)
        return [ends[place] for place in places]


@pytest.fixture
def watcher(settings: KafkaSettings) -> Iterator[Watcher]:
    one = Watcher(settings)
    yield one
    one.close()


def assert_as_uninterrupted(
    watcher: Watcher, settings: KafkaSettings, digests: dict[int, str], partitions: int = PARTITIONS
) -> None:
    assert set(digests) == set(range(partitions))
    for partition in range(partitions):
        events = watcher.records(settings.topic, partition)
        assert len(events) > 100
        column = np.array([event.offset for event in events], np.int64)
        values = [event.value for event in events]
        batch = RecordBatch(column, column, [None] * len(events), values, events[-1].offset + 1)
        block, dead = CODEC.decode(batch)
        assert dead == []
        learner = build_model(MODEL, STREAM.schema)
        learner.learn_many(block.x, block.y)
        assert digests[partition] == learner.digest
        answers = watcher.records(settings.predictions, partition)
        assert [json.loads(answer.value)["offset"] for answer in answers] == [event.offset for event in events]
        assert [answer.key for answer in answers] == [event.key for event in events]


def digests_of(*results: dict[str, Any]) -> dict[int, str]:
    return {part["partition"]: part["state_digest"] for result in results for part in result["partitions"]}


def test_one_member_with_four_partitions(settings: KafkaSettings, members: Members, watcher: Watcher) -> None:
    arguments = [
        "--bootstrap",
        settings.bootstrap,
        "--topic",
        settings.topic,
        "--events",
        "6000",
        "--partitions",
        "4",
    ]
    made = subprocess.Popen([*CLI, "produce", "electricity", *arguments], stderr=subprocess.PIPE, text=True)
    finish(made)
    result = members.result(members.start("--until-caught-up"))
    assert (result["predictions"], result["events"]) == (6000, 6000)
    assert [part["position"] for part in result["partitions"]] == watcher.ends()
    assert_as_uninterrupted(watcher, settings, digests_of(result))


def test_a_member_is_killed_and_the_other_takes_over(
    settings: KafkaSettings, members: Members, watcher: Watcher
) -> None:
    produce(settings, 0, 1200)
    small = ["--block-rows", "50", "--checkpoint-events", "500"]
    killed, left = members.start(*small), members.start(*small)
    watcher.wait([150] * PARTITIONS)
    produce(settings, 1200, 6_000)
    watcher.wait([450] * PARTITIONS)
    os.kill(killed.pid, signal.SIGKILL)
    watcher.wait(watcher.ends())
    left.send_signal(signal.SIGTERM)
    result = members.result(left)
    assert_as_uninterrupted(watcher, settings, digests_of(result))


def test_a_rolling_restart(settings: KafkaSettings, members: Members, watcher: Watcher) -> None:
    produce(settings, 0, 6_000)
    small = ["--block-rows", "50", "--checkpoint-events", "500"]
    old = [members.start(*small), members.start(*small)]
    watcher.wait([100] * PARTITIONS)
    new = []
    for process in old:
        process.send_signal(signal.SIGTERM)
        members.result(process)
        new.append(members.start("--until-caught-up", *small))
    digests = digests_of(*(members.result(process) for process in new))
    assert watcher.committed(PARTITIONS) == watcher.ends()
    assert_as_uninterrupted(watcher, settings, digests)


def test_partitions_are_added_while_we_run(settings: KafkaSettings, members: Members, watcher: Watcher) -> None:
    produce(settings, 0, 1500, partitions=2)
    daemon = members.start("--block-rows", "200")
    watcher.wait(watcher.ends(2))
    admin = KafkaAdminClient(**settings.client())
    admin.create_partitions({settings.topic: PARTITIONS})
    admin.close()
    produce(settings, 1500, 3000)
    watcher.wait(watcher.ends())
    daemon.send_signal(signal.SIGTERM)
    assert_as_uninterrupted(watcher, settings, digests_of(members.result(daemon)))
