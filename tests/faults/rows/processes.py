"""Signals at the wrong moment, and a process that gets no time or no memory."""

from __future__ import annotations

import signal
import time

import numpy as np

from stream_moe.models.catalogue import build_model
from stream_moe.types import Schema
from tests.faults.rig import SMALL, Case, FaultyBroker, events, standing
from tests.faults.rows.brokers import own_broker
from tests.faults.rows.kills import seen
from tests.faults.table import Run, row

EVENTS = 1500
DRAINS = "the block is finished, a checkpoint written, exit code 0; the next start replays nothing"


def _drained(fail_at: str) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker) as case:
            case.produce(events(0, EVENTS))
            member = case.start(*SMALL, fail_at=fail_at)
            member.ended(0)
            done = case.committed()[0]
            assert 0 < done < EVENTS
            metrics = case.finished()
            assert metrics["stream_moe_replayed_events"] == 0
            return f"exit code 0 at {done:,}; then {EVENTS:,} answered once, nothing replayed, digest equal"

    return run


row("process", "SIGTERM in the middle of a block", DRAINS)(_drained("stepped:7:TERM"))
row("process", "SIGTERM in a commit", DRAINS)(_drained("flushed:7:TERM"))


@row("process", "SIGTERM while idle", DRAINS)
def idle(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        began = time.monotonic()
        member = case.start(*SMALL)
        case.settle(member)
        began = time.monotonic()
        member.signal(signal.SIGTERM)
        member.ended(0, seconds=20)
        seconds = time.monotonic() - began
        metrics = case.finished()
        assert metrics["stream_moe_replayed_events"] == 0
        return f"exit code 0 after {seconds:.1f} s; {EVENTS:,} answered once, nothing replayed, digest equal"


@row("process", "SIGTERM in a replay", "leaves at once, exit code 0; nothing is said twice")
def in_replay(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        case.killed("committed:4")
        case.start(*SMALL, fail_at="replayed:2:TERM").ended(0)
        assert case.committed() == [400]
        return f"exit code 0; {seen(case)}"


@row("process", "SIGTERM while the broker is down", "ends within 60 s, in one line; nothing is lost", slow=True)
def broker_down(_: FaultyBroker) -> str:
    with own_broker() as broker, standing(broker, "stepped:7", EVENTS) as (case, member):
        broker.kill()
        member.signal(signal.SIGTERM)
        member.signal(signal.SIGCONT)
        began = time.monotonic()
        code = member.wait(120)
        seconds = time.monotonic() - began
        assert code in (0, 3, 75), member.log
        assert "\nTraceback" not in member.log, member.log
        broker.start()
        return f"exit code {code} after {seconds:.0f} s; {seen(case)}"


@row("process", "a second SIGTERM", "ends at once; the next start replays")
def second(broker: FaultyBroker) -> str:
    with standing(broker, "stepped:7", EVENTS) as (case, member):
        member.signal(signal.SIGTERM)
        member.signal(signal.SIGCONT)
        time.sleep(0.05)
        member.signal(signal.SIGTERM)
        code = member.wait()
        assert code in (0, -signal.SIGTERM), member.log
        return f"ended with {code}; {seen(case)}"


@row("process", "SIGHUP", "ends as by kill; the next start replays")
def hangup(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        member = case.start(*SMALL, fail_at="flushed:7:HUP")
        member.ended(-signal.SIGHUP)
        return f"ended by SIGHUP; {seen(case)}"


@row("process", "SIGPIPE", "nothing: the daemon goes on")
def pipe(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        metrics = case.finished(case.start(*SMALL, fail_at="flushed:7:PIPE"))
        assert metrics["stream_moe_replayed_events"] == 0
        return f"went on; {EVENTS:,} answered once, digest equal"


@row("process", "a step slower than the session", "the group gives us up; the block is fenced, then done once")
def slow_step(broker: FaultyBroker) -> str:
    with standing(broker, "stepped:7", EVENTS) as (case, member):
        time.sleep(5)  # a session is 2.5 s here
        member.signal(signal.SIGCONT)
        metrics = case.finished(member)
        moved, fenced = metrics["stream_moe_rebalances_total"], metrics["stream_moe_transactions_total{fenced}"]
        return f"{moved:.0f} rebalances, {fenced:.0f} fenced; {EVENTS:,} answered once, digest equal"


@row("process", "a tree-growth attack (random labels, 300,000 events)", "every tree stays below its memory cap")
def growth(_: FaultyBroker) -> str:
    rng, cap = np.random.default_rng(1), 50_000  # of the leaves; without it they take 160,000
    schema = Schema.numeric(10, ["a", "b"])
    learner = build_model("hoeffding-tree", schema, options={"max_bytes": str(cap)})
    most = 0
    for _block in range(300):
        x = rng.random((1000, 10), dtype=np.float32)
        learner.learn_many(x, rng.integers(0, 2, 1000).astype(np.int32))
        most = max(most, learner.report().model_bytes)
    assert most <= 1.1 * cap  # the inner nodes come on top
    return f"at most {most:,} bytes with a cap of {cap:,} for leaves"
