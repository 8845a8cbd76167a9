"""kill -9 at each step of the protocol."""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Callable

from tests.faults.member import wait_for
from tests.faults.proxy import END_TXN
from tests.faults.rig import SMALL, Case, FaultyBroker, events
from tests.faults.table import Run, row

EVENTS = 1500
AGAIN = "the block is done once, state as if nothing happened"
PLACES = [
    ("after poll", "polled:7", 600, AGAIN),
    ("after step", "stepped:7", 600, AGAIN),
    ("sends flushed", "flushed:7", 600, AGAIN),
    ("offsets sent", "offsets-sent:7", 600, AGAIN),
    ("committed and no checkpoint yet", "committed:3", 300, "replay from the first checkpoint"),
    ("in the temporary write", "checkpoint-unflushed:3", 0, "an older checkpoint is used; no half file counts"),
    ("before the rename", "checkpoint-written:3", 0, "an older checkpoint is used"),
    ("after the rename", "checkpoint-renamed:3", 0, "the checkpoint is used"),
    ("while old generations are deleted", "generation-deleted:1", 0, "the newest checkpoint is used"),
]


def _killed_at(place: str, committed: int) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker) as case:
            case.produce(events(0, EVENTS))
            case.killed(place)
            found = case.committed()[0]
            assert found == committed or (committed == 0 and found >= 500), f"{found} committed, not {committed}"
            return seen(case)

    return run


for fault, place, committed, expected in PLACES:
    row("kill -9", fault, expected)(_killed_at(place, committed))


def seen(case: Case, more: Callable[[Case, Counter[str]], str] | None = None) -> str:
    """Finish the case and say what its last daemon did, with what `more` finds in its metrics."""
    found = sum(case.committed())
    metrics = case.finished()
    replayed, answers = (int(metrics[f"stream_moe_{name}"]) for name in ("replayed_events", "events_consumed_total"))
    assert (metrics["stream_moe_transactions_total{committed}"] > 0) == (found < sum(case.ends()))
    text = f"{found:,} committed before; {replayed:,} replayed; {answers:,} answered once, digest equal"
    return text if more is None else f"{text}; {more(case, metrics)}"


@row("kill -9", "commit sent and answer unread", "the commit stands; the block is not done again", alone=True)
def commit_sent(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        commits: list[int] = []

        def silence_the_seventh(key: int) -> bool:
            if key == END_TXN:
                commits.append(key)
            return key == END_TXN and len(commits) == 7

        broker.proxy.on_request = silence_the_seventh
        try:
            member = case.start(*SMALL, proxied=True)
            wait_for("the seventh commit", lambda: len(commits) >= 7)
            case.wait_for_commits(700)  # it stands at the broker, and nobody told the daemon
            member.signal(signal.SIGKILL)
            member.ended(-signal.SIGKILL)
        finally:
            broker.proxy.on_request = lambda key: False
        assert case.committed() == [700]
        return seen(case)


@row("kill -9", "during replay, twice", "the replay begins again; nothing is said twice")
def in_replay(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        case.killed("committed:4")
        case.killed("replayed:3")
        case.killed("replayed:2")
        return seen(case)
