"""Labels in a topic of their own, on a real broker: killed or not, the journal tells what was learnt."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from connectors.files import FileCheckpointStore
from connectors.kafka import KafkaProducerLog, KafkaSettings, partition_counts
from connectors.memory import EOF, MemoryLog, MemoryReader, MemorySink, MemorySource, Record
from stream_moe.engine.loop import Engine, EngineSettings
from stream_moe.entries import JournalEntry
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from tests.kafka.daemons import finish, run_arguments, stream_moe
from tests.kafka.steps import committed_records
from tests.simulation.inputs import Rehearsal

EVENTS, PARTITIONS, MODEL = 8000, 2, "hoeffding-tree"
SCHEMA = open_stream("electricity").schema

pytestmark = pytest.mark.kafka


@pytest.fixture
def apart(settings: KafkaSettings) -> KafkaSettings:
    return replace(settings, labels=f"{settings.topic}.labels")


def produce(settings: KafkaSettings) -> None:
    arguments = ["--bootstrap", settings.bootstrap, "--topic", settings.topic, "--labels", str(settings.labels)]
    finish(stream_moe("produce", "electricity", *arguments, "--events", str(EVENTS), "--partitions", str(PARTITIONS)))


def arguments(settings: KafkaSettings, state: Path, *more: str) -> list[str]:
    small = ["--block-rows", "50", "--checkpoint-events", "1500"]
    return run_arguments(settings, state, "--labels", str(settings.labels), "--model", MODEL, *small, *more)


def rehearsed(settings: KafkaSettings, partition: int, tmp_path: Path) -> str:
    """The state of an uninterrupted run in the order of the journal, on a log in memory."""
    log = MemoryLog()
    assert settings.labels is not None
    assert settings.journal_topic is not None
    for topic in (settings.topic, settings.labels, settings.journal_topic):
        found = committed_records(settings, topic, partition)
        records = [Record(record.value, record.key, record.timestamp) for record in found]
        log.extend(topic, [*records, EOF], partition)
    events = MemorySource(log, settings.topic, "rehearsal", {partition})
    engine = Engine(
        Rehearsal(events, MemoryReader(log, settings.labels), MemoryReader(log, settings.journal_topic)),
        MemorySink(log, settings.topic, "rehearsal"),
        lambda _: FileCheckpointStore(tmp_path / "rehearsal" / str(partition)),
        lambda schema: build_model(MODEL, schema),
        EngineSettings(MODEL),
        schema=SCHEMA,
    )
    engine.run()
    return engine.digests()[partition]


def test_killed_and_restarted_as_if_it_had_never_stopped(apart: KafkaSettings, tmp_path: Path) -> None:
    produce(apart)
    result, state = tmp_path / "run.json", tmp_path / "state"
    command = arguments(apart, state, "--until-caught-up", "--json", str(result))
    for _ in range(3):
        daemon = stream_moe(*command)
        before = set(state.rglob("*.ckpt"))
        while daemon.poll() is None and set(state.rglob("*.ckpt")) <= before:
            time.sleep(0.01)
        time.sleep(0.4)  # somewhere behind the first new checkpoint
        assert daemon.poll() is None, "the daemon was done before it could be killed: make the blocks smaller"
        daemon.send_signal(signal.SIGKILL)
        daemon.communicate()
    finish(stream_moe(*command))
    final: dict[str, Any] = json.loads(result.read_text())
    assert (final["events"], final["labels"], final["pending_events"]) == (EVENTS, EVENTS, 0)
    assert final["replayed_events"] > 0
    predicted = 0
    for each in final["partitions"]:
        partition = each["partition"]
        offsets = [json.loads(r.value)["offset"] for r in committed_records(apart, apart.predictions, partition)]
        assert offsets == list(range(len(offsets)))
        predicted += len(offsets)
        journal = [
            JournalEntry.from_json(r.value) for r in committed_records(apart, str(apart.journal_topic), partition)
        ]
        assert [entry.sequence for entry in journal] == list(range(1, len(journal) + 1))
        assert journal[-1].pair == (len(offsets), len(offsets))
        assert each["state_digest"] == rehearsed(apart, partition, tmp_path)
    assert predicted == EVENTS


def one_line(process_arguments: Sequence[str]) -> tuple[int, str]:
    process = stream_moe(*process_arguments)
    _, err = process.communicate(timeout=90)
    lines = [line for line in err.splitlines() if "WARNING" not in line and "INFO" not in line]
    assert len(lines) == 1, err
    return process.returncode, lines[0]


def test_topics_that_do_not_fit_are_refused(apart: KafkaSettings, tmp_path: Path) -> None:
    produce(apart)
    code, said = one_line(
        arguments(replace(apart, labels="not.there"), tmp_path / "a", "--until-caught-up", "--quiet")
    )
    assert code == 3
    assert "'not.there' does not exist" in said
    KafkaProducerLog(replace(apart, topic="one.partition", labels=None), create=True).close()
    other = replace(apart, labels="one.partition")
    code, said = one_line(arguments(other, tmp_path / "b", "--until-caught-up", "--quiet"))
    assert code == 3
    assert "has 1 partition(s) and the input" in said


def test_a_group_keeps_to_its_kind(apart: KafkaSettings, tmp_path: Path) -> None:
    """With and without --labels the position means another thing."""
    produce(apart)
    finish(stream_moe(*arguments(apart, tmp_path / "state", "--until-caught-up")))
    plain = run_arguments(replace(apart, labels=None), tmp_path / "other", "--model", MODEL, "--quiet")
    code, said = one_line([*plain, "--until-caught-up"])
    assert code == 2
    assert "name it with --labels" in said
    assert partition_counts(apart, [str(apart.journal_topic)])[str(apart.journal_topic)] == PARTITIONS
