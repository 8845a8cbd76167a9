"""The faults again with the labels in a topic of their own, and those of the journal between the two."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

from kafka import TopicPartition

from connectors.kafka import KafkaProducerLog
from tests.faults.rig import SMALL, Case, FaultyBroker
from tests.faults.rows import brokers, groups
from tests.faults.rows.kills import EVENTS, PLACES, seen
from tests.faults.rows.labels import accounted
from tests.faults.table import Run, row

AGAIN = "the block is done once, in the journal's order; state as if nothing happened"
QUICK = {"sends flushed", "committed and no checkpoint yet"}  # the others are left to the command


def settled(case: Case, metrics: Counter[str]) -> str:
    """Check that no label was lost or learnt twice, and that no replay came to other answers."""
    assert metrics["stream_moe_replay_divergence_total"] == 0
    assert metrics["stream_moe_pending_events"] == 0
    return accounted(metrics, applied=sum(case.ends()) // 2)


def _killed_at(*places: str) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker, two_topics=True) as case:
            case.fill(EVENTS)
            for place in places:
                case.killed(place)
            assert 0 < case.committed()[0] < 2 * EVENTS
            return seen(case, settled)

    return run


for fault, place, _, expected in PLACES:
    slow = fault not in QUICK
    row("two topics", f"kill -9 {fault}", AGAIN if "block" in expected else expected, slow)(_killed_at(place))
row("two topics", "kill -9 during replay, twice", "the replay takes the journal's blocks again", slow=True)(
    _killed_at("committed:8", "replayed:2", "replayed:1")
)

row("two topics", "the broker is killed in a transaction, back after 5 s", brokers.GOES_ON, slow=True)(
    partial(brokers.killed, two_topics=True)
)
row("two topics", "a zombie, paused in a transaction beyond its session, resumes", "it is fenced", slow=True)(
    partial(groups.zombie, two_topics=True)
)
row("two topics", "a rebalance in the middle of a block, labels under way", "every label meets its event, once")(
    partial(groups.rebalance, two_topics=True)
)


def _refused(spoil: Callable[[Case], object], said: str, place: str = "committed:8") -> Run:
    """Kill a daemon, spoil what the next one needs for its replay, and see that one refuse."""

    def run(broker: FaultyBroker) -> str:
        with Case(broker, two_topics=True) as case:
            case.fill(EVENTS)
            case.killed(place)
            stood = case.committed()
            spoil(case)
            line = case.start(*SMALL).ended(3, said)
            assert case.committed() == stood
            return f"exit code 3: {line[12:110]}..."

    return run


def _lose_the_journal(case: Case) -> None:
    case.admin.delete_topics([case.settings.journal_topic])


def _trim(topic: Literal["labels", "journal_topic"], before: int) -> Callable[[Case], object]:
    return lambda case: case.admin.delete_records({TopicPartition(getattr(case.settings, topic), 0): before})


row("two topics", "the journal is lost", "refused in one line; nothing is learnt in another order")(
    _refused(_lose_the_journal, "no longer holds all blocks")
)
row("two topics", "the journal begins behind the checkpoint", "refused in one line", slow=True)(
    _refused(_trim("journal_topic", 14), "no longer holds all blocks")
)
row("two topics", "the labels begin behind the checkpoint", "refused in one line; no label is skipped", slow=True)(
    _refused(_trim("labels", 790), "no longer holds")
)


@row("two topics", "the labels' topic is deleted while we run", "one line, exit code 3; no silence", slow=True)
def labels_deleted(broker: FaultyBroker) -> str:
    with Case(broker, two_topics=True) as case:
        case.fill(EVENTS)
        member = case.start(*SMALL)
        case.settle(member)
        case.admin.delete_topics([case.settings.labels])
        return f"exit code 3: {member.ended(3, 'does not exist')[12:110]}..."


@row("two topics", "the labels' topic has another number of partitions", "one line, exit code 3, before any commit")
def other_partitions(broker: FaultyBroker) -> str:
    with Case(broker, partitions=2, two_topics=True) as case:
        assert case.settings.labels is not None
        labels = replace(case.settings, topic=case.settings.labels, labels=None)
        KafkaProducerLog(labels, create=True, partitions=3).close()
        case.fill(100)
        line = case.start(*SMALL).ended(3, "has 3 partition(s) and the input")
        assert case.committed() == [0, 0]
        return f"exit code 3: {line[12:110]}..."
