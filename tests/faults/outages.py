"""How long a group of three members stands still when one of three brokers dies, freezes or is restarted.

    python -m tests.faults.outages [--fault TEXT] [--tries 3]

Needs Java 17 and Maven. Exit code 1 where a member ended, or an answer was lost or doubled.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

from kafka import errors

from tests.faults.member import Member
from tests.faults.rig import SMALL, Case, events
from tests.kafka.broker.cluster import NODES, Cluster

EVENTS, PARTITIONS, BEFORE = 30_000, 3, 900
LONGEST_SECONDS = 200.0

Fault = Callable[[Cluster, Case], None]


def _leads(cluster: Cluster, case: Case) -> int:
    """A node that leads a partition of the input and does not keep the group."""
    leaders = {cluster.leader(case.settings.topic, partition) for partition in range(PARTITIONS)}
    return min(leaders - {cluster.coordinator()}, default=cluster.coordinator())


def _rolling(cluster: Cluster, _: Case) -> None:
    for node in NODES:
        cluster.restart(node)


FAULTS: dict[str, Fault] = {
    "a partition's leader killed": lambda cluster, case: cluster.kill(_leads(cluster, case)),
    "the group's coordinator killed": lambda cluster, _: cluster.kill(cluster.coordinator()),
    "the controller killed": lambda cluster, _: cluster.kill(cluster.controller()),
    "a partition's leader frozen": lambda cluster, case: cluster.freeze(_leads(cluster, case)),
    "the group's coordinator frozen": lambda cluster, _: cluster.freeze(cluster.coordinator()),
    "a rolling restart of the brokers": _rolling,
}


@dataclass(frozen=True, slots=True)
class Outage:
    """What a fault did.

    Attributes
    ----------
    seconds
        The longest time in which a partition had no answer.
    codes
        Exit codes of members that ended, each of which was started again.
    """

    seconds: float
    codes: tuple[int, ...]


def outage(cluster: Cluster, fault: Fault, events_count: int = EVENTS) -> Outage:
    """Let members work on a full log, do the fault, and let them finish while it lasts; check everything."""
    with Case(cluster, PARTITIONS) as case:
        case.produce(events(0, events_count))
        members = [case.start(*SMALL) for _ in range(PARTITIONS)]
        case.wait_for_commits(BEFORE // PARTITIONS, LONGEST_SECONDS)  # where kernels are compiled first
        codes: list[int] = []
        try:
            fault(cluster, case)
            finish(case, members, codes)
        finally:
            cluster.heal()
        case.settle(*members)
        for member in members:
            member.signal(signal.SIGTERM)
        for member in members:
            member.ended(0)
        case.check(*members)
        return Outage(max(_gap(case, partition) for partition in range(PARTITIONS)), tuple(codes))


def finish(case: Case, members: list[Member], codes: list[int]) -> None:
    """Wait until everything is committed, starting again each member that ends."""
    deadline = time.monotonic() + LONGEST_SECONDS
    while True:
        for at, member in enumerate(members):
            if not member.process.is_alive():
                codes.append(member.wait())
                print(f"exit code {codes[-1]}: {member.last_line}", file=sys.stderr, flush=True)
                members[at] = case.start(*SMALL)
        with contextlib.suppress(errors.KafkaError):  # the reader of the test itself may ask the broker that is away
            if case.committed() == case.ends():
                return
        assert time.monotonic() < deadline, "\n".join(member.log for member in members)
        time.sleep(0.2)


def _gap(case: Case, partition: int) -> float:
    times = sorted(record.timestamp for record in case.records(case.settings.predictions, partition))
    return max(after - before for before, after in pairwise(times)) / 1000


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults.outages", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--fault", default="", help="those whose name has this text")
    parser.add_argument("--tries", type=int, default=3)
    options = parser.parse_args()
    print("| fault | outage in s, each try | exit codes |\n| --- | --- | --- |", flush=True)
    cluster, ended = Cluster(), False
    try:
        cluster.start()
        for name, fault in FAULTS.items():
            if options.fault in name:
                found = [outage(cluster, fault) for _ in range(options.tries)]
                codes = [code for one in found for code in one.codes]
                ended = ended or bool(codes)
                seconds = ", ".join(f"{one.seconds:.1f}" for one in found)
                print(f"| {name} | {seconds} | {', '.join(map(str, codes)) or 'none'} |", flush=True)
    finally:
        cluster.stop()
    raise SystemExit(ended)


if __name__ == "__main__":
    main()
