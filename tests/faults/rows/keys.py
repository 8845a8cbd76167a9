"""A model for each key: deaths, signals and a full disk while models move between memory and store."""

from __future__ import annotations

from tests.faults.rig import SMALL, Case, FaultyBroker, events
from tests.faults.rows.kills import seen
from tests.faults.table import Run, row

EVENTS = 1500
FEW = (*SMALL, "--key-memory", "1")  # MB: some 70 models
MANY = ("--block-rows", "100", "--checkpoint-events", "1000")  # models changed, so that no block saves them all
AGAIN = "models come back from the files that a checkpoint names"


def _killed_at(place: str, keys: int, options: tuple[str, ...]) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker, keys=keys) as case:
            case.produce(events(0, EVENTS))
            case.killed(place, *options)
            return seen(case)

    return run


for fault, place, keys, options in (
    ("kill -9 after models left memory", "models-evicted:9", 300, FEW),
    ("kill -9 before a file of models", "segment-unwritten:9", 300, FEW),
    ("kill -9 after a file of models", "segment-written:9", 300, FEW),
    ("kill -9 while a checkpoint's models are written between blocks", "models-half-saved:2", EVENTS, MANY),
):
    row("keys", fault, AGAIN)(_killed_at(place, keys, options))


@row("keys", "SIGTERM while a checkpoint's models are written", "they are written first; nothing is replayed")
def terminated(broker: FaultyBroker) -> str:
    with Case(broker, keys=EVENTS) as case:
        case.produce(events(0, EVENTS))
        case.start(*MANY, fail_at="models-half-saved:1:TERM").ended(0)
        assert 1000 <= case.committed()[0] < EVENTS
        metrics = case.finished()
        assert metrics["stream_moe_replayed_events"] == 0
        return f"{EVENTS:,} answered once, 0 replayed, digest equal"


@row("keys", "disk full (ENOSPC) as models leave memory", "one line, exit code 2; the next start goes on")
def full_disk(broker: FaultyBroker) -> str:
    with Case(broker, keys=300) as case:
        case.produce(events(0, EVENTS))
        case.start(*FEW, fail_at="checkpoint-unflushed:5:ENOSPC").ended(2, "the disk is full; make room")
        return seen(case)


@row("keys", "disk full (ENOSPC) as a checkpoint writes its models", "counted; the next checkpoint writes them")
def full_at_checkpoint(broker: FaultyBroker) -> str:
    with Case(broker, keys=300) as case:
        case.produce(events(0, EVENTS))
        metrics = case.finished(case.start(*SMALL, fail_at="checkpoint-unflushed:2:ENOSPC"))
        assert metrics["stream_moe_checkpoint_failures_total"] == 1
        return f"1 failed and counted; {EVENTS:,} answered once, digest equal"


@row("keys", "a file of models is cut off, then restored", "refused when its key comes, exit code 2; then it goes on")
def damaged(broker: FaultyBroker) -> str:
    with Case(broker, keys=300) as case:
        case.produce(events(0, EVENTS))
        case.killed("committed:12", *FEW)
        files = {path: path.read_bytes() for path in case.state.rglob("*.models")}
        for path, content in files.items():
            path.write_bytes(content[: len(content) // 8])
        line = case.start(*FEW).ended(2, "cut off")
        for path, content in files.items():
            path.write_bytes(content)
        return f"{line[:60]}...; restored: {seen(case)}"
