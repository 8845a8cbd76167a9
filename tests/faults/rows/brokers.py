"""A broker that is not there, dies, stands still, or does not have what it had."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kafka import KafkaProducer, TopicPartition
from kafka.structs import OffsetAndMetadata

from tests.faults.member import wait_for
from tests.faults.rig import SMALL, Case, FaultyBroker, events, standing
from tests.faults.rows.kills import seen
from tests.faults.table import not_produced, row
from tests.kafka.broker import Broker, free_ports

EVENTS = 1500
GOES_ON = "rides it out, or ends with exit code 75; no answer lost or doubled"


@contextmanager
def own_broker(more: str = "") -> Iterator[FaultyBroker]:
    broker = FaultyBroker(more)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@row("broker", "down at the start", "one line, exit code 3, within 30 s")
def down(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        began = time.monotonic()
        member = case.start("--bootstrap", f"127.0.0.1:{free_ports(1)[0]}")
        member.ended(3, "no broker answers", seconds=30)
        assert sum("stream-moe: " in line for line in member.log.splitlines()) == 1
        return f"exit code 3 after {time.monotonic() - began:.0f} s"


def _outage(
    begin: Callable[[FaultyBroker], None],
    end: Callable[[FaultyBroker], None],
    seconds: float,
    two_topics: bool = False,
) -> str:
    """Stop the daemon in the middle of a transaction, take the broker away, and see how it fares."""
    with own_broker() as broker, standing(broker, "flushed:5", EVENTS, two_topics=two_topics) as (case, member):
        begin(broker)
        member.signal(signal.SIGCONT)
        time.sleep(seconds)
        end(broker)
        deadline = time.monotonic() + 90
        while member.process.is_alive() and case.committed() != case.ends():
            assert time.monotonic() < deadline, member.log
            time.sleep(0.2)
        if member.process.is_alive():
            metrics = case.finished(member, seconds=120)
            doubts = int(metrics["stream_moe_transactions_total{in_doubt}"])
            return f"rode it out, {doubts} in doubt; {EVENTS:,} answered once, digest equal"
        line = member.ended(75)
        return f"exit code 75 ({line.split(', ', 1)[1][:60]}...); {seen(case)}"


@row(
    "broker",
    "paused in a commit beyond the watchdog (3 s here)",
    "exit code 75 in one line; no answer lost or doubled",
)
def watchdog(_: FaultyBroker) -> str:
    with own_broker() as broker, standing(broker, "flushed:5", EVENTS, commit=3.0) as (case, member):
        broker.pause()
        began = time.monotonic()
        member.signal(signal.SIGCONT)
        line = member.ended(75, "no answer for 3 s")
        seconds = time.monotonic() - began
        broker.resume()
        return f"exit code 75 after {seconds:.0f} s ({line.split(', ', 1)[1][:50]}...); {seen(case)}"


@row("broker", "killed in a transaction, back after 5 s", GOES_ON, slow=True)
def killed(_: FaultyBroker, two_topics: bool = False) -> str:
    return _outage(Broker.kill, Broker.start, 5, two_topics)


@row("broker", "killed in a transaction, back after its timeout (70 s)", GOES_ON, slow=True)
def killed_for_long(_: FaultyBroker) -> str:
    return _outage(Broker.kill, Broker.start, 70)


@row("broker", "paused for 90 s in a transaction", GOES_ON, slow=True)
def paused(_: FaultyBroker) -> str:
    return _outage(Broker.pause, Broker.resume, 90)


@row("broker", "half-open connections for 30 s", GOES_ON, slow=True, alone=True)
def half_open(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        member = case.start(*SMALL, proxied=True)
        case.wait_for_commits(200)
        broker.proxy.silent.set()
        try:
            time.sleep(30)
        finally:
            broker.proxy.silent.clear()
            broker.proxy.cut()
        wait_for("the end, or all", lambda: not member.process.is_alive() or case.committed() == case.ends())
        if member.process.is_alive():
            metrics = case.finished(member)
            doubts = int(metrics["stream_moe_transactions_total{in_doubt}"])
            return f"rode it out, {doubts} in doubt; {EVENTS:,} answered once, digest equal"
        member.ended(75)
        return f"exit code 75; {seen(case)}"


@row("broker", "every connection cut, five times", GOES_ON, alone=True)
def cut(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        member = case.start(*SMALL, proxied=True)
        for at in range(100, 1100, 200):
            case.wait_for_commits(at)
            broker.proxy.cut()
        metrics = case.finished(member)
        doubts = int(metrics["stream_moe_transactions_total{in_doubt}"])
        return f"rode it out, {doubts} in doubt; {EVENTS:,} answered once, digest equal"


@row("broker", "input topic deleted while we run", "one line, exit code 3; no reset, no silence")
def topic_deleted(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        member = case.start(*SMALL)
        case.settle(member)
        case.admin.delete_topics([case.settings.topic])
        return f"exit code 3: {member.ended(3).split(', ', 1)[1][:90]}..."


@row("broker", "log start beyond the checkpoint", "refused in one line; no gap is learnt over")
def log_start(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        case.killed("committed:9")
        place = TopicPartition(case.settings.topic, 0)
        case.admin.delete_records({place: 700})
        line = case.start(*SMALL).ended(3, "starts at 700")
        for file in case.state.rglob("*.ckpt"):
            file.unlink()
        no_state = case.start(*SMALL, "--schema", "electricity").ended(2, "no usable checkpoint")
        assert case.committed() == [900]
        return (
            f"exit code 3 ({line.split(': ', 1)[1][:50]}...), without state 2 ({no_state.split(': ', 1)[1][:40]}...)"
        )


@row("broker", "log start beyond the committed position", "refused in one line; no record is skipped")
def position_lost(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        case.killed("committed:10")
        case.admin.delete_records({TopicPartition(case.settings.topic, 0): 1200})
        line = case.start(*SMALL).ended(3, "starts at 1200")
        return f"exit code 3: {line.split(': ', 1)[1][:90]}..."


@row("broker", "a stuck upstream transaction", "waits before it and stays ready; goes on when it ends")
def stuck_upstream(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 500))
        upstream = KafkaProducer(
            **case.settings.client(), transactional_id=case.settings.group + "-up", transaction_timeout_ms=600_000
        )
        upstream.init_transactions()
        upstream.begin_transaction()
        for value in events(500, 100):
            upstream.send(case.settings.topic, value)
        upstream.flush()
        case.produce(events(600, 400), start=600)
        member = case.start(*SMALL)
        case.wait_for_commits(500)
        wait_for("readiness", member.ready)
        time.sleep(2)
        assert case.committed() == [500]
        upstream.commit_transaction()
        upstream.close()
        case.finished(member)
        return "500 answered and ready while it was open; then all 1,000 once, digest equal"


@row("broker", "the committed position is beyond the end of the log", "refused in one line: it is another log")
def beyond_the_end(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 300))
        place = TopicPartition(case.settings.topic, 0)
        assert case.committed() == [0]  # by now the group has a coordinator
        case.admin.alter_group_offsets(case.settings.group, {place: OffsetAndMetadata(5000, "", -1)})
        line = case.start(*SMALL).ended(3, "before the committed offset 5000")
        return f"exit code 3: {line[12:100]}..."


not_produced("broker", "a power cut that takes acknowledged records back",
             "needs a cluster with unclean leader election; what is then found is the row before")  # fmt: skip
