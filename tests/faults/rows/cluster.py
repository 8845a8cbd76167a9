"""One of three brokers dies, freezes, or goes and comes back, while a group of three members works."""

from __future__ import annotations

import time
from collections.abc import Callable

from kafka.admin import ConfigResource, ConfigResourceType

from tests.faults.outages import FAULTS, finish, outage
from tests.faults.rig import SMALL, Case, FaultyBroker, events
from tests.faults.table import Run, row
from tests.kafka.broker.cluster import Cluster, shared

EVENTS = 6000
KILLED_SECONDS, FROZEN_SECONDS = 15.0, 30.0  # without an answer, at most
QUICK = ("the group's coordinator killed",)


def _survived(fault: str) -> Run:
    def run(_: FaultyBroker) -> str:
        found = outage(shared(), FAULTS[fault], EVENTS)
        assert not found.codes, f"members ended with {found.codes}"
        assert found.seconds < (FROZEN_SECONDS if "frozen" in fault else KILLED_SECONDS), f"{found.seconds:.1f} s"
        return f"{found.seconds:.1f} s without an answer, no exit; {EVENTS:,} answered once, digests equal"

    return run


for fault in FAULTS:
    most = FROZEN_SECONDS if "frozen" in fault else KILLED_SECONDS
    expected = f"at most {most:.0f} s without an answer, no member ends, no answer lost or doubled"
    row("cluster", fault, expected, slow=fault not in QUICK, alone=True)(_survived(fault))


def _starts(away: Callable[[Cluster, int], None]) -> Run:
    def run(_: FaultyBroker) -> str:
        cluster = shared()
        with Case(cluster) as case:
            case.produce(events(0, 600))
            assert case.committed() == [0]  # by now there is a coordinator
            codes: list[int] = []
            try:
                away(cluster, cluster.coordinator())
                began = time.monotonic()
                members = [case.start(*SMALL)]
                finish(case, members, codes)
                seconds = time.monotonic() - began
            finally:
                cluster.heal()
            assert not codes, f"ended with {codes}"
            case.finished(members[0])
            return f"600 answered after {seconds:.0f} s, no exit, digest equal"

    return run


STARTS = "finds those that answer, and works"
row("cluster", "a member starts while a broker is freshly dead", STARTS, alone=True)(_starts(Cluster.kill))
row("cluster", "a member starts while a broker is frozen", STARTS, alone=True)(_starts(Cluster.freeze))


@row("cluster", "in-sync replicas below the minimum", "waits, and goes on when they are back; no exit", alone=True)
def too_few(_: FaultyBroker) -> str:
    cluster = shared()
    with Case(cluster) as case:
        case.produce(events(0, EVENTS))
        member = case.start(*SMALL)
        case.wait_for_commits(500)
        case.admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, case.settings.predictions, {"min.insync.replicas": "3"})]
        )
        try:
            cluster.kill(_follower(cluster, case))
            time.sleep(6)  # the leader has noticed
            before = case.committed()
            time.sleep(3)
            assert case.committed() == before != case.ends(), f"{before} of {case.ends()} committed"
        finally:
            cluster.heal()
        case.finished(member)
        return f"{before[0]:,} committed and no more while one was away; then all {EVENTS:,} once, digest equal"


def _follower(cluster: Cluster, case: Case) -> int:
    """A node that has nothing to do with the case but a replica."""
    busy = {cluster.leader(topic) for topic in (case.settings.topic, case.settings.predictions)}
    busy |= {cluster.coordinator(), cluster.leader("__transaction_state")}
    return min(set(cluster.brokers) - busy, default=cluster.leader(case.settings.topic))


@row("cluster", "a leader election under load", "goes on; no exit, no answer lost or doubled", alone=True)
def election(_: FaultyBroker) -> str:
    def elect(cluster: Cluster, case: Case) -> None:
        cluster.restart(cluster.leader(case.settings.topic))  # others lead what it led,
        cluster.prefer()  # until it does again

    found = outage(shared(), elect, EVENTS)
    assert not found.codes, f"members ended with {found.codes}"
    assert found.seconds < KILLED_SECONDS, f"{found.seconds:.1f} s"
    return f"{found.seconds:.1f} s without an answer, no exit; {EVENTS:,} answered once, digests equal"
