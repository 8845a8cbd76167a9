"""Several partitions and several daemons on a real broker: every record once, every state as if nothing happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaAdminClient, TopicPartition

from connectors.kafka import KafkaProducerLog, KafkaSettings
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import RecordBatch
from tests.kafka.daemons import QUICK_CLI, Members, digests_of, finish
from tests.kafka.steps import CommitWatcher

pytestmark = pytest.mark.kafka

MODEL, PARTITIONS = "hoeffding-tree", 4
STREAM = open_stream("electricity")
CODEC = JsonCodec(STREAM.schema)


def produce(settings: KafkaSettings, start: int, count: int, partitions: int = PARTITIONS) -> None:
    block = next(STREAM.blocks(start + count))
    values = CODEC.encode_events(block)
    log = KafkaProducerLog(settings, headers=[schema_header(STREAM.schema)], create=True, partitions=partitions)
    log.send((str(i).encode(), values[i]) for i in range(start, start + count))
    log.close()


@pytest.fixture
def members(settings: KafkaSettings, tmp_path: Path) -> Iterator[Members]:
    group = Members(settings, tmp_path, "--model", MODEL)
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
    made = subprocess.Popen([*QUICK_CLI, "produce", "electricity", *arguments], stderr=subprocess.PIPE, text=True)
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
