"""Checkpoints that are damaged, not ours, or cannot be written."""

from __future__ import annotations

import dataclasses
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_moe.checkpoints.checkpoint import Checkpoint
from stream_moe.checkpoints.format import MAGIC, VERSION
from stream_moe.errors import CheckpointError
from tests.faults.rig import SMALL, Case, FaultyBroker, events
from tests.faults.rows.kills import seen
from tests.faults.table import Run, not_produced, row
from tests.fuzz.inputs import sealed

EVENTS = 1200
OLDER = "the one before is used, the gap replayed"


@contextmanager
def stopped_at_1100(broker: FaultyBroker) -> Iterator[tuple[Case, list[Path]]]:
    """A case whose daemon was killed at offset 1,100, and its checkpoints, newest (1,000) first."""
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        case.killed("committed:11")
        yield case, sorted(case.state.rglob("*.ckpt"), reverse=True)


def _refused(content: bytes) -> bool:
    try:
        Checkpoint.from_bytes(content)
    except CheckpointError:
        return True
    return False


def _damaged(damages: Callable[[bytes], Iterator[bytes]]) -> Run:
    """Every damage is refused by the reader; the first of them is what the daemon finds as its newest file."""

    def run(broker: FaultyBroker) -> str:
        with stopped_at_1100(broker) as (case, files):
            whole = files[0].read_bytes()
            bad = list(damages(whole))
            assert not _refused(whole)
            assert all(map(_refused, bad))
            files[0].write_bytes(bad[0])
            return f"{len(bad):,} of {len(bad):,} refused; {seen(case)}"

    return run


def _truncated(content: bytes) -> Iterator[bytes]:
    for size in (len(content) // 2, *range(0, len(content), max(1, len(content) // 500)), len(content) - 1):
        yield content[:size]


def _flipped(content: bytes) -> Iterator[bytes]:
    chance = random.Random(1)
    for _ in range(500):
        out = bytearray(content)
        out[chance.randrange(len(out))] ^= 1 << chance.randrange(8)
        yield bytes(out)


row("checkpoint", "truncated at many sizes", OLDER)(_damaged(_truncated))
row("checkpoint", "a bit flipped", OLDER)(_damaged(_flipped))
row("checkpoint", "empty", OLDER)(_damaged(lambda _: iter([b""])))


@row("checkpoint", "all generations bad", "replay from the start of the log")
def all_bad(broker: FaultyBroker) -> str:
    with stopped_at_1100(broker) as (case, files):
        for file in files:
            file.write_bytes(file.read_bytes()[:-1])
        return f"{len(files)} bad; {seen(case)}"


@row("checkpoint", "ahead of Kafka", "set aside, never used")
def ahead(broker: FaultyBroker) -> str:
    with stopped_at_1100(broker) as (case, files):
        forged = dataclasses.replace(Checkpoint.from_bytes(files[0].read_bytes()), offset=1150)
        (files[0].parent / f"{1150:020d}.ckpt").write_bytes(forged.to_bytes())
        said = seen(case)
        assert [path.name for path in case.state.rglob("ahead-*")] == [f"ahead-{1150:020d}.ckpt"]
        return f"set aside; {said}"


@row("checkpoint", "another partition's", "refused in one line, exit code 2; nothing is overwritten")
def another_partition(broker: FaultyBroker) -> str:
    with stopped_at_1100(broker) as (case, files):
        own = Checkpoint.from_bytes(files[0].read_bytes())
        other = dataclasses.replace(own.owner, source=own.owner.source[:-1] + "1")
        kept = dataclasses.replace(own, owner=other).to_bytes()
        files[0].write_bytes(kept)
        case.start(*SMALL).ended(2, "made for")
        assert files[0].read_bytes() == kept
        files[0].write_bytes(own.to_bytes())
        return f"exit code 2; put back: {seen(case)}"


def _refuses(arguments: list[str], said: str) -> Run:
    def run(broker: FaultyBroker) -> str:
        with stopped_at_1100(broker) as (case, _):
            line = case.start(*SMALL, *arguments).ended(2, said)
            return f"exit code 2: {line.split(': ', 2)[2][:60]}...; the old ones again: {seen(case)}"

    return run


row("checkpoint", "another config", "refused, exit code 2, the difference named")(
    _refuses(["--set", "grace_period=100"], "grace_period")
)
row("checkpoint", "another schema", "refused, exit code 2")(_refuses(["--schema", "rbf_f"], "another model, schema"))


@row("checkpoint", "a newer format version (a downgrade)", "refused, exit code 2; nothing is overwritten")
def newer(broker: FaultyBroker) -> str:
    with stopped_at_1100(broker) as (case, files):
        kept = files[0].read_bytes()
        files[0].write_bytes(sealed(kept[len(MAGIC) + 4 + 32 :], VERSION + 1))
        line = case.start(*SMALL).ended(2, f"version {VERSION + 1}")
        files[0].write_bytes(kept)
        return f"exit code 2: {line.split(': ', 2)[2][:60]}...; put back: {seen(case)}"


def _cannot_write(fail_at: str) -> Run:
    def run(broker: FaultyBroker) -> str:
        with Case(broker) as case:
            case.produce(events(0, EVENTS))
            metrics = case.finished(case.start(*SMALL, fail_at=fail_at))
            failures = int(metrics["stream_moe_checkpoint_failures_total"])
            assert failures == fail_at.count(",") + 1
            return f"{failures} failed and counted; {EVENTS:,} answered once, digest equal"

    return run


COUNTED = "the daemon goes on; the failure is counted and logged"
row("checkpoint", "disk full (ENOSPC)", COUNTED)(_cannot_write("checkpoint-unflushed:2:ENOSPC"))
row("checkpoint", "disk error (EIO) in write and rename", COUNTED)(
    _cannot_write("checkpoint-unflushed:2:EIO,checkpoint-written:2:EIO")
)


@row("checkpoint", "file size limit (RLIMIT_FSIZE)", COUNTED)
def size_limit(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, EVENTS))
        metrics = case.finished(case.start(*SMALL, file_bytes=8_000))
        failures = int(metrics["stream_moe_checkpoint_failures_total"])
        assert failures >= 2
        assert not list(case.state.rglob("*.ckpt")) or metrics["stream_moe_checkpoint_bytes"] <= 8_000
        return f"{failures} failed and counted; {EVENTS:,} answered once, digest equal; again: {seen(case)}"


@contextmanager
def _small_disk(folder: Path, options: str) -> Iterator[None]:
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


def _can_mount() -> bool:
    folder = Path("/tmp") / "stream-moe-mount-probe"
    try:
        with _small_disk(folder, "size=64k"):
            return True
    except (subprocess.CalledProcessError, OSError):
        return False
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@row("checkpoint", "a disk of 24 KiB that fills up", COUNTED)
def full_disk(broker: FaultyBroker) -> str:
    if not _can_mount():
        return "not produced: nothing may be mounted here (see the rows ENOSPC and RLIMIT_FSIZE)"
    with Case(broker) as case, _small_disk(case.state, "size=24k"):
        case.produce(events(0, EVENTS))
        metrics = case.finished(case.start(*SMALL))
        failures = int(metrics["stream_moe_checkpoint_failures_total"])
        assert failures >= 1
        return f"{failures} failed and counted; {EVENTS:,} answered once, digest equal"


@row("checkpoint", "a read-only file system", "refused at the start, exit code 2")
def read_only(broker: FaultyBroker) -> str:
    if not _can_mount():
        return "not produced: nothing may be mounted here, and the super-user may write anywhere else"
    with Case(broker) as case, _small_disk(case.state, "ro,size=64k"):
        case.produce(events(0, EVENTS))
        return f"exit code 2: {case.start(*SMALL).ended(2, 'read-only').split(': ', 1)[1][:90]}..."


@row("checkpoint", "the directory is deleted while we run", COUNTED + "; the next start replays the log")
def directory_gone(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 600))
        member = case.start(*SMALL)
        case.settle(member)
        shutil.rmtree(case.state)
        case.produce(events(600, 600), start=600)
        metrics = case.finished(member)
        failures = int(metrics["stream_moe_checkpoint_failures_total"])
        assert failures >= 1
        return f"{failures} failed and counted; again: {seen(case)}"


not_produced("checkpoint", "a disk that takes a write and loses it at a power cut",
             "no power cut can be had here; fsync of file and directory, and reading back before the rename, are in "
             "tests/unit/test_file_store.py")  # fmt: skip


@row("checkpoint", "the state is gone, and the model is another", "refused in one line that names what differs")
def another_model(broker: FaultyBroker) -> str:
    with Case(broker) as case:
        case.produce(events(0, 300))
        case.finished()
        line = case.start(*SMALL, "--state-dir", str(case.folder / "empty"), "--model", "naive-bayes").ended(
            2, "the model was hoeffding-tree, is naive-bayes"
        )
        return f"exit code 2 ({line.split(': ', 1)[1][:60]}...)"
