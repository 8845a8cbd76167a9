"""The daemon end to end on a real broker, against the least a client of the same library could do."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from connectors.kafka import KafkaProducerLog, KafkaSettings, ensure_topics
from connectors.kafka.writer import producer_options
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.evaluation.prequential import labelled_blocks
from stream_moe.streams import open_stream
from tests.kafka.broker import Broker

EVENTS = 200_000
CLI = [sys.executable, "-c", "from stream_moe.cli import main; main()"]


def daemon_against_bare_loop(repeats: int) -> tuple[list[float], list[float]]:
    """Events/s of both, taken in turn, on 10-feature events (rbf_f)."""
    broker = Broker()
    broker.start()
    try:
        topic = f"bench-{uuid.uuid4().hex[:8]}"
        settings = KafkaSettings(broker.bootstrap, topic, predictions=f"{topic}-out", dead_letters=f"{topic}-dead")
        fill(settings)
        pairs = [(daemon(settings, f"g{i}"), bare_loop(settings)) for i in range(repeats)]
    finally:
        broker.stop()
    return [a for a, _ in pairs], [b for _, b in pairs]


def fill(settings: KafkaSettings) -> None:
    stream = open_stream("rbf_f")
    codec, sent = JsonCodec(stream.schema), 0
    log = KafkaProducerLog(settings, headers=[schema_header(stream.schema)], create=True)
    for block in labelled_blocks(stream, EVENTS, 4096):
        log.send((str(sent + i).encode(), value) for i, value in enumerate(codec.encode_events(block, sent)))
        sent += len(block)
    log.close()
    ensure_topics(settings, [settings.predictions])


def daemon(settings: KafkaSettings, group: str) -> float:
    """Steady speed of the daemon: its first block, in which code is loaded, is left out."""
    return float(run_daemon(settings, group)["events_per_second"])


def run_daemon(settings: KafkaSettings, group: str) -> dict[str, Any]:
    """Run the daemon over the whole topic; what it says of itself at the end."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "run.json"
        subprocess.run(
            [*CLI, "run", "--bootstrap", settings.bootstrap, "--topic", settings.topic, "--group", group,
             "--predictions", settings.predictions, "--dead-letters", settings.dead_letters, "--state-dir", folder,
             "--guarantee", "at-least-once", "--model", "driftmoe-data", "--until-caught-up", "--metrics-port", "0",
             "--threads", "2", "--quiet", "--json", str(result)],
            check=True, capture_output=True,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(result.read_text())
        return found


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
