"""The daemon end to end on a real broker: against the least a client of the same library could do, the cost of
exactly-once, and how long a restart takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from connectors.kafka import KafkaProducerLog, KafkaSettings, ensure_topics
from connectors.kafka.writer import producer_options
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.streams import open_stream
from stream_moe.streams.blocks import labelled_blocks
from tests.kafka.broker import Broker, free_ports

EVENTS = 200_000
CLI = [sys.executable, "-m", "stream_moe"]


@contextmanager
def filled_topic(events: int) -> Iterator[KafkaSettings]:
    """A broker with a topic of 10-feature events (rbf_f)."""
    broker = Broker()
    broker.start()
    try:
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        settings = KafkaSettings(broker.bootstrap, topic, predictions=f"{topic}-out", dead_letters=f"{topic}-dead")
        fill(settings, events)
        yield settings
    finally:
        broker.stop()


def daemon_against_bare_loop(repeats: int) -> tuple[list[float], list[float]]:
    """Events/s of both, taken in turn."""
    with filled_topic(EVENTS) as settings:
        pairs = [(daemon(settings, f"g{i}"), bare_loop(settings)) for i in range(repeats)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def exactly_once_against_at_least_once(repeats: int) -> tuple[list[float], list[float]]:
    """Events/s of both, taken in turn."""
    with filled_topic(EVENTS) as settings:
        pairs = [
            (daemon(settings, f"exactly{i}", "exactly-once"), daemon(settings, f"least{i}")) for i in range(repeats)
        ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def recovery_seconds(model: str, behind: int) -> float:
    """How long a daemon takes from its start to its first new event, the newest checkpoint `behind` events back.

    It counts from when the process has its partition: imports and the joining of the group come before.
    """
    never = ["--checkpoint-events", str(10**12), "--checkpoint-seconds", str(10**9)]
    with filled_topic(behind) as settings, tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "run.json"
        command = [*run_command(settings, "recovery", folder), "--model", model, "--json", str(result)]
        first = subprocess.Popen([*command, *never, "--guarantee", "exactly-once"], stderr=subprocess.DEVNULL)
        watcher = KafkaConsumer(**settings.client(), group_id="recovery", enable_auto_commit=False)
        place = TopicPartition(settings.topic, 0)
        while (watcher.committed(place) or 0) < behind:
            if first.poll() is not None:
                raise RuntimeError("the daemon ended before it was killed")
            time.sleep(0.1)
        watcher.close(autocommit=False)
        first.kill()
        first.wait()
        subprocess.run(
            [*command, "--guarantee", "exactly-once", "--until-caught-up"], check=True, capture_output=True
        )
        found = json.loads(result.read_text())
    if found["replayed_events"] != behind:
        raise RuntimeError(f"{found['replayed_events']} events were replayed, not {behind}")
    return float(found["recovery_seconds"])


def fill(settings: KafkaSettings, events: int = EVENTS) -> None:
    stream = open_stream("rbf_f")
    codec, sent = JsonCodec(stream.schema), 0
    log = KafkaProducerLog(settings, headers=[schema_header(stream.schema)], create=True)
    for block in labelled_blocks(stream, events, 4096):
        log.send((str(sent + i).encode(), value) for i, value in enumerate(codec.encode_events(block, sent)))
        sent += len(block)
    log.close()
    ensure_topics(settings, [settings.predictions])


def daemon(settings: KafkaSettings, group: str, guarantee: str = "at-least-once") -> float:
    """Steady speed of the daemon: its first block, in which code is loaded, is left out."""
    return float(run_daemon(settings, group, guarantee)["events_per_second"])


def run_command(settings: KafkaSettings, group: str, state: str) -> list[str]:
    return [
        *CLI, "run", "--bootstrap", settings.bootstrap, "--topic", settings.topic, "--group", group,
        "--predictions", settings.predictions, "--dead-letters", settings.dead_letters, "--state-dir", state,
        "--metrics-port", "0", "--threads", "2", "--quiet",
    ]  # fmt: skip


def run_daemon(
    settings: KafkaSettings,
    group: str,
    guarantee: str = "at-least-once",
    threads: int = 2,
    load: str = "",
    more: Sequence[str] = (),
) -> dict[str, Any]:
    """Run the daemon over the whole topic; what it says of itself at the end.

    `load` are options of `benchmarks.web_load`, whose clients then ask for metrics and page meanwhile; what they saw
    is the result's `load`. `more` are further options of the daemon.
    """
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "run.json"
        more = [
            *more,
            "--guarantee",
            guarantee,
            "--model",
            "driftmoe-data",
            "--until-caught-up",
            "--json",
            str(result),
        ]
        where = ["--metrics-port", str(port), "--threads", str(threads)]
        command = [*run_command(settings, group, folder), *more, *where]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if load:
            asked = [sys.executable, "-m", "benchmarks.web_load", str(port), "--pid", str(process.pid), *load.split()]
            clients = subprocess.Popen(asked, stdout=subprocess.PIPE, text=True)
        if process.wait():
            raise RuntimeError(f"the daemon ended with {process.returncode}")
        found: dict[str, Any] = json.loads(result.read_text())
        if load:
            found["load"] = json.loads(clients.communicate(timeout=60)[0])
        return found


def loaded_against_not(repeats: int, load: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """What the daemon says of itself with clients and without, taken in turn.

    It has one thread, so that the clients, which are elsewhere in real life, have a core to themselves.
    """
    with filled_topic(EVENTS) as settings:
        return [
            (
                run_daemon(settings, f"loaded{i}", threads=1, load=load),
                run_daemon(settings, f"not{i}", threads=1),
            )
            for i in range(repeats)
        ]


def bare_loop(settings: KafkaSettings) -> float:
    """Poll every event and send a value of a prediction's size for it: no decoding, no model."""
    consumer = KafkaConsumer(**settings.client(), group_id=None, max_poll_records=4096, auto_offset_reset="earliest")
    place = TopicPartition(settings.topic, 0)
    consumer.assign([place])
    producer = KafkaProducer(**producer_options(settings))
    value, done = b"x" * 220, 0
    start = time.perf_counter()
    while done < EVENTS:
        for records in consumer.poll(timeout_ms=1000, max_records=4096).values():
            for record in records:
                producer.send(settings.predictions, value, key=record.key)
            producer.flush()
            done += len(records)
    seconds = time.perf_counter() - start
    consumer.close()
    producer.close()
    return EVENTS / seconds
