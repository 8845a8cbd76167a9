"""What operations do to a daemon: scrapes, credentials, upgrades, clocks."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
import time
import urllib.parse
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kafka import KafkaProducer

from tests import golden
from tests.faults.member import wait_for
from tests.faults.rig import SMALL, Case, FaultyBroker, events
from tests.faults.table import Run, not_produced, row
from tests.kafka import test_security as security

EVENTS = 1500


@row("ops", "scrapes at 50 Hz and 20 slow-loris connections", "answered, refused with 429 or closed; nothing is lost")
def scrapes(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 500))
        member = case.start(*SMALL)
        case.settle(member)
        address = next(word for word in member.log.split() if "metrics=" in word).removeprefix("metrics=")
        where = urllib.parse.urlsplit(address)
        with contextlib.ExitStack() as stack:
            for _ in range(20):
                loris = stack.enter_context(socket.create_connection((where.hostname or "", where.port or 0)))
                loris.sendall(b"GET /metrics HT")
            stop, seconds, statuses = threading.Event(), list[float](), Counter[int]()

            def scrape() -> None:
                while not stop.wait(0.02):
                    began = time.monotonic()
                    statuses[member.page("metrics")[0]] += 1
                    seconds.append(time.monotonic() - began)

            pool = stack.enter_context(ThreadPoolExecutor(1))
            scraper = pool.submit(scrape)
            stack.callback(stop.set)
            case.produce(events(500, 4000), start=500)
            case.settle(member)
            wait_for("six scrapes", lambda: statuses[200] > 5 or scraper.done())
            stop.set()
            scraper.result()
        assert set(statuses) <= {200, 429}, statuses  # one address gets ten answers a second in the long run
        slowest = max(seconds)
        case.finished(member)
        said = f"{statuses[200]} pages and {statuses[429]} refusals, the slowest {1000 * slowest:.0f} ms"
        return f"{said}; 4,500 answered once, digest equal"


not_produced("ops", "... and the throughput they cost (bound 5 %)",
             "a measurement, not a test: `python -m benchmarks.bench --only scrapes`")  # fmt: skip


@row(
    "ops", "wrong password, mechanism, certificate, authority, passphrase; no right", "one line, no secret", slow=True
)
def refused(_: FaultyBroker) -> str:
    with tempfile.TemporaryDirectory() as folder, security.secured_broker(Path(folder)) as secured:
        for way in security.WRONG_WAYS:
            security.test_a_wrong_way_in_is_one_line_that_names_the_way_out(secured, way)
    return f"{len(security.WRONG_WAYS)} ways, each one line with the way out, none with a secret"


@row("ops", "a right that is taken away while we run", "one line, exit code 3, no secret anywhere", slow=True)
def revoked(_: FaultyBroker) -> str:
    with tempfile.TemporaryDirectory() as folder, security.secured_broker(Path(folder)) as secured:
        for kind in security.RIGHTS:
            state = Path(folder) / kind.name
            state.mkdir()
            security.test_a_right_that_is_taken_away_ends_the_daemon(secured, kind, state)
    return f"{len(security.RIGHTS)} kinds of rights (topic, group, transactional id), exit code 3 each"


@row("ops", "upgrade with state: files of every older version", "read and learnt on")
def upgrade(_: FaultyBroker) -> str:
    files = sorted(golden.HERE.glob("*.ckpt"))
    for path in files:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copy(path, Path(folder) / f"{golden.AT:020d}.ckpt")
            engine, _log = golden.engine(Path(folder), committed=golden.AT)
            engine.run()
            assert engine.tasks[0].learner.digest == golden.DIGEST
    return f"{', '.join(path.stem for path in files)}: learnt on to the recorded digest"


def _clock(jump: float) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker) as case:
            case.produce(events(0, EVENTS))
            case.finished(case.start(*SMALL, clock=jump))
            return f"{EVENTS:,} answered once, digest equal; ready all the while"

    return run


row("ops", "the clock jumps an hour ahead each second", "nothing: durations are monotonic")(_clock(3600))
row("ops", "the clock jumps an hour back each second", "nothing: durations are monotonic")(_clock(-3600))


@row("ops", "record timestamps in 1970 and 2100", "answered; dead letters bear the time of writing")
def timestamps(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 100))
        producer = KafkaProducer(**case.settings.client())
        far = [0, 1, 4_102_444_800_000]
        for i, value in enumerate([*events(100, 299), b"{"], 100):
            producer.send(case.settings.topic, value, b"%d" % i, timestamp_ms=far[i % 3], partition=0)
        producer.flush()
        producer.close()
        case.finished()
        return "400 answered once, digest equal"
