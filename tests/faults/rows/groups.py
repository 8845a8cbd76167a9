"""Members that come, go, stand still and come back."""

from __future__ import annotations

import signal
import threading
import time

from kafka import KafkaProducer

from tests.faults.member import wait_for
from tests.faults.proxy import SYNC_GROUP
from tests.faults.rig import SMALL, Case, FaultyBroker, events, standing
from tests.faults.soak import soak
from tests.faults.table import row

EVENTS = 1500


@row("group", "a zombie, paused in a transaction beyond its session, resumes", "it is fenced and drops its state")
def zombie(broker: FaultyBroker, two_topics: bool = False) -> str:
    with standing(broker, "flushed:5", EVENTS, two_topics=two_topics) as (case, one):
        # 400, but of two topics, whose blocks have no fixed size, and where a busy machine cost it a session.
        assert case.committed() != case.ends(), one.log
        other = case.start(*SMALL)
        case.settle(other)
        one.signal(signal.SIGCONT)
        wait_for(
            "the zombie's fall", lambda: "is dropped" in one.log or "joins again" in one.log or "lost" in one.log
        )
        case.fill(500, EVENTS)
        case.settle(one, other)
        fenced = int(one.metrics()["stream_moe_transactions_total{fenced}"])
        for member in (one, other):
            member.signal(signal.SIGTERM)
            member.ended(0)
        case.check(one, other)
        return f"{fenced} commit fenced; {EVENTS + 500:,} answered once, digest equal"


@row("group", "another writer with the same transactional id", "fenced once, recovers, goes on")
def same_id(broker: FaultyBroker) -> str:
    with standing(broker, "stepped:5", EVENTS) as (case, member):
        rogue = KafkaProducer(**case.settings.client(), transactional_id=case.settings.transactional_id(0))
        rogue.init_transactions()
        rogue.close()
        member.signal(signal.SIGCONT)
        metrics = case.finished(member)
        fenced = int(metrics["stream_moe_transactions_total{fenced}"])
        assert fenced == 1
        return f"{fenced} fenced; {EVENTS:,} answered once, digest equal"


@row("group", "the same daemon started twice", "the second is a standby, and takes over when the first is killed")
def started_twice(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 500))
        one = case.start(*SMALL)
        case.settle(one)
        two = case.start(*SMALL)
        wait_for("the standby", two.ready)
        assert two.metrics()["stream_moe_assigned_partitions"] == 0
        one.signal(signal.SIGKILL)
        case.produce(events(500, 500), start=500)
        case.finished(two)
        return "ready with no partition; then all 1,000 answered once, digest equal"


@row("group", "a rebalance in the middle of a block", "the block is committed, or done again by the next owner")
def rebalance(broker: FaultyBroker, two_topics: bool = False) -> str:
    with standing(broker, "stepped:6", 2000, 2, two_topics, session=10) as (case, one):
        two = case.start(*SMALL, session=10)
        time.sleep(3)  # less than a session: the group waits for us to join again
        one.signal(signal.SIGCONT)
        case.fill(1000, 2000)
        case.settle(one, two)
        moved = int(one.metrics()["stream_moe_rebalances_total"])
        for member in (one, two):
            member.signal(signal.SIGTERM)
            member.ended(0)
        digests = [part["partition"] for m in (one, two) for part in m.result["partitions"]]
        assert sorted(digests)[:2] == [0, 1] or sorted(set(digests)) == [0, 1]
        case.check(one, two)
        return f"{moved} rebalances; 3,000 answered once, digests equal"


@row("group", "partitions are added while we run", "each gets a model; the outputs grow too")
def grows(broker: FaultyBroker) -> str:
    with Case(broker, partitions=1) as case:
        case.produce(events(0, 500))
        member = case.start(*SMALL)
        case.settle(member)
        case.admin.create_partitions({case.settings.topic: 3})
        case.partitions = 3
        wait_for("the partitions", lambda: member.metrics()["stream_moe_assigned_partitions"] == 3)
        case.produce(events(500, 1500), start=500)
        case.finished(member)
        return "1 became 3; 2,000 answered once, digests equal"


@row("group", "... and the broker answers the leader when its poll is over", "it joins to the end", alone=True)
def grows_slowly(broker: FaultyBroker) -> str:
    with Case(broker, partitions=1) as case:
        case.produce(events(0, 500))
        member = case.start(*SMALL, proxied=True)
        case.settle(member)
        late = threading.Event()

        def answer_late(key: int) -> bool:
            if key == SYNC_GROUP:
                late.set()
                time.sleep(1.5)  # a poll is 0.5 s, a session 2.5
            return False

        broker.proxy.on_request = answer_late
        began = time.monotonic()
        try:
            case.admin.create_partitions({case.settings.topic: 3})
            case.partitions = 3
            wait_for("the partitions", lambda: member.metrics()["stream_moe_assigned_partitions"] == 3, 30)
        finally:
            broker.proxy.on_request = lambda key: False
        assert late.is_set()
        seconds = time.monotonic() - began
        case.produce(events(500, 1500), start=500)
        case.finished(member)
        return f"1 became 3 within {seconds:.0f} s; 2,000 answered once, digests equal"


@row("group", "rolling restart of 3 members over 8 partitions, kill -9 among them", "every answer once", slow=True)
def rolling(_: FaultyBroker) -> str:
    report = soak(seconds=60, seed=1, brokers=False)
    return report.splitlines()[-1]
