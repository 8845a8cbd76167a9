"""A state under a right checksum that would have compiled code read or write beyond an array, or turn for ever."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stream_moe import build_model
from stream_moe.checkpoints.checkpoint import Checkpoint, understood
from stream_moe.drift.adwin import DriftMonitor
from stream_moe.engine.settings import EngineSettings
from stream_moe.engine.state import PartitionState
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.kinds import KINDS, expert_class
from stream_moe.experts.state import ArrayState
from stream_moe.models.contract import BlockClassifier
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import Schema
from tests.laws.cases import SCHEMA, build, mixed_stream, run

TOP = 2**63 - 1
# Of a learner, an array of its state, what is written into all of it, and what the line says.
ARRAYS: list[tuple[str, str, Any, str]] = [
    ("no-change", "expert/memory.last", 10**9, r"array 'memory\.last' holds 1,000,000,000, and -1 to 3 is allowed"),
    ("no-change", "monitor/waiting", 10**9, "'waiting' holds 1,000,000,000, and 0 to 32 is allowed"),
    ("no-change", "monitor/width", TOP, "'width' holds"),
    ("no-change", "monitor/filled", 6, "'filled' holds 6, and 0 to 5 is allowed"),
    ("no-change", "specialization/events", -1, "'events' holds -1"),
    ("knn", "expert/window.y", 10**6, r"'window\.y' holds 1,000,000, and 0 to 3 is allowed"),
    ("prototypes", "expert/swarm.label", 10**6, r"'swarm\.label' holds 1,000,000, and -1 to 3 is allowed"),
    ("prototypes", "expert/swarm.latest", 1e9, r"'swarm\.latest' holds 1e\+09"),
    ("history-softmax", "expert/history/past.label", 10**9, r"'past\.label' holds 1,000,000,000"),
    ("history-softmax", "expert/history/past.which", 10**6, r"'past\.which' holds 1,000,000"),
    ("target-encoding", "expert/rates.feature", 10**6, r"'rates\.feature' holds 1,000,000, and -1 to 4 is allowed"),
    ("naive-bayes", "expert/nominal", -5000.0, "'nominal' holds -5000"),
    ("hoeffding-tree", "expert/feature", 10**6, "'feature' holds 1,000,000, and -1 to 4 is allowed"),
    ("adaptive-tree", "expert/monitor/waiting", 9, "'waiting' holds 9, and 0 to 8 is allowed"),
    ("adaptive-tree", "expert/fore/columns", 10**6, "'columns' holds 1,000,000, and 0 to 4 is allowed"),
    ("adaptive-tree", "expert/recent/y", -1, "'y' holds -1, and 0 to 3 is allowed"),
    ("adaptive-tree", "expert/recent/x", math.inf, "'x' holds inf"),
    ("driftmoe-data", "monitor/filled", -1, "'filled' holds -1"),
    ("driftmoe-data", "batch/target", math.nan, "'target' holds nan, and 0 to 1 is allowed"),
    ("driftmoe-two-stage", "stage/clusters.n_categories", -1, "'n_categories' holds -1"),
    ("keyed", "keys/offset", TOP, "'offset' holds 9,223,372,036,854,775,807"),
    ("keyed", "keys/segment", 10**6, "'segment' holds 1,000,000"),
]  # fmt: skip
NUMBERS: list[tuple[str, tuple[str, ...], Any, str]] = [
    ("adaptive-tree", ("expert", "counts", "learnt"), -1, "number 'learnt' is -1"),
    ("adaptive-tree", ("expert", "counts", "draws"), 10**400, "number 'draws' is 1000"),
    ("driftmoe-data", ("router", "steps"), -1, "number 'steps' is -1"),
    ("driftmoe-data", ("router", "steps"), math.nan, "number 'steps' is nan"),
    ("driftmoe-data", ("router", "loss"), "1", "number 'loss' is '1'"),
    ("keyed", ("keys", "next_ticket"), TOP, "number 'next_ticket' is 9223372036854775807"),
    ("keyed", ("keys", "segments"), ["../../x.models"], "is no name of a file of models"),
]


def learnt(name: str, events: int = 400) -> BlockClassifier:
    model = build(name)
    run(model, *mixed_stream(events), 100)
    return model


def refusal(target: Any, snapshot: Snapshot) -> str:
    """Restore what must be refused in one line."""
    with pytest.raises(CheckpointError) as error, understood("it"):
        target.restore(snapshot)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("name", "array", "value", "line"), ARRAYS, ids=[f"{n}-{a}" for n, a, _, _ in ARRAYS])
def test_an_array_that_leads_beyond_memory_is_refused(name: str, array: str, value: Any, line: str) -> None:
    arrays, plain = learnt(name, 390).snapshot()
    assert arrays[array].size
    assert_line(refusal(build(name), (arrays | {array: np.full_like(arrays[array], value)}, plain)), line)


@pytest.mark.parametrize(("name", "path", "value", "line"), NUMBERS)
def test_a_number_that_cannot_be_is_refused(name: str, path: tuple[str, ...], value: Any, line: str) -> None:
    arrays, plain = learnt(name).snapshot()
    inner = plain
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert_line(refusal(build(name), (arrays, plain)), line)


def assert_line(said: str, pattern: str) -> None:
    with pytest.raises(CheckpointError, match=pattern):
        raise CheckpointError(said)


def mixture() -> BlockClassifier:
    return build_model("driftmoe", SCHEMA, options={"trees": "1", "without": "knn,prototypes,target-encoding"})


@pytest.mark.parametrize(
    ("array", "value", "line"),
    [
        ("waiting/ticket", -1, "waiting: array 'ticket' holds -1"),
        ("waiting/head", 2**60, "waiting: array 'head' holds"),
        ("waiting/learnt", 10**6, "waiting: array 'learnt' holds 1,000,000, and 0 to"),
        ("gates/learnt", -1, "gates: array 'learnt' holds -1"),
        ("sleep/learnt", -1, "sleep: array 'learnt' holds -1"),
        ("experts/0/fore/feature", 99, "expert 0: adaptive-tree, fore: tree: array 'feature' holds 99"),
    ],
)
def test_gates_and_what_waits_for_them_are_refused(array: str, value: int, line: str) -> None:
    model, (x, y) = mixture(), mixed_stream(200)
    model.step(x, y)
    model.step(x[:20], np.full(20, -1, np.int32), tickets=np.arange(20))
    arrays, plain = model.snapshot()
    assert_line(refusal(mixture(), (arrays | {array: np.full_like(arrays[array], value)}, plain)), line)


@pytest.mark.parametrize(
    ("array", "value", "line"),
    [
        ("quality/counts", 10**9, "quality: array 'counts' holds 1,000,000,000"),
        ("watch/features/since", -1, "watch, features: distribution monitor: array 'since' holds -1"),
        ("watch/labels/ring", 200, "watch, labels: distribution monitor: array 'ring' holds 200"),
        ("watch/labels/before", 512, "watch, labels: distribution monitor: array 'before' holds 512"),
        ("join/tickets", TOP, "join: array 'tickets' holds"),
    ],
)
def test_scores_detectors_and_waiting_labels_are_refused(array: str, value: int, line: str) -> None:
    from stream_moe.types import Block

    def fresh() -> PartitionState:
        return PartitionState(build("no-change"), EngineSettings("no-change"))

    state, (x, y) = fresh(), mixed_stream(300)
    places, names = np.arange(300), [f"e{i}" for i in range(300)]
    state.take(Block(x, y, names, np.ones(300, np.bool_), places, places))
    arrays, plain = pack({"learner": state.learner.snapshot(), **state.parts()})
    damaged = unpack((arrays | {array: np.full_like(arrays[array], value)}, plain))
    assert_line(refusal(fresh(), damaged), line)  # type: ignore[arg-type]


def test_an_array_is_taken_over_with_all_others_or_not_at_all() -> None:
    monitor, other = DriftMonitor(2), DriftMonitor(2)
    other.update(np.ones((100, 2), np.float32))
    arrays, _ = other.snapshot()
    refusal(monitor, (arrays | {"events": np.full(1, -1)}, {}))
    assert all(
        np.array_equal(mine, fresh) for mine, fresh in zip(monitor.windows, DriftMonitor(2).windows, strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_array_of_every_kind_of_expert_has_a_range(kind: str) -> None:
    expert = expert_class(kind)(SCHEMA)
    if isinstance(expert, ArrayState):
        ranges = {f"{part}.{name}" for part, each in expert._ranges().items() for name in each}
        assert ranges == set(expert._arrays())


def test_an_array_of_no_bytes_claims_no_memory() -> None:
    arrays, plain = learnt("hoeffding-tree").snapshot()
    damaged = arrays | {"expert/mass": np.zeros((2**40, 0)), "expert/feature": np.zeros((2**19, 0), np.int32)}
    assert "this schema needs" in refusal(build("hoeffding-tree"), (damaged, plain))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("driftmoe-data", {"n_experts": 10**9, "top_k": 1}),
        ("driftmoe-data", {"hidden": 10**9}),
        ("driftmoe-data", {"mini_batch": 10**9}),
        ("knn", {"parameters": {"window": 2**20}}),
        ("prototypes", {"parameters": {"size": 2**16}}),
        ("history-softmax", {"parameters": {"products": 10**9}}),
    ],
)
def test_what_a_file_of_a_model_asks_for_is_bounded_before_it_is_made(
    tmp_path: Path, name: str, parameters: dict[str, Any]
) -> None:
    wide = name in {"knn", "prototypes"}
    model = build_model(name, Schema.numeric(2000 if wide else 3, ["no", "yes"]))
    model.save(tmp_path / "it.model")
    found = Checkpoint.from_bytes((tmp_path / "it.model").read_bytes())
    found.plain["model"]["parameters"] |= parameters
    (tmp_path / "it.model").write_bytes(found.to_bytes())
    command = (
        "import resource; from stream_moe import BlockClassifier\n"
        "resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))\n"
        f"BlockClassifier.load({str(tmp_path / 'it.model')!r})"
    )
    said = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=False).stderr
    assert said.splitlines()[-1].startswith("stream_moe.errors.CheckpointError"), said[-500:]


def test_settings_that_no_memory_holds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"hidden: 1000000; .* at most 16,384"):
        build_model("driftmoe-task", SCHEMA, options={"hidden": "1000000"})
    with pytest.raises(ConfigError, match="268,435,456 values may be kept"):
        build_model("knn", Schema.numeric(1000, ["no", "yes"]), options={"window": "1000000"})


def test_a_short_run_over_every_array_of_every_learner() -> None:
    """`python -m tests.fuzz --target state` tries all of them, with indices checked."""
    command = [sys.executable, "-m", "tests.fuzz", "--target", "state", "--unchecked", "--events", "300"]
    done = subprocess.run([*command, "--share", "0.015"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-2].split()[-1].replace(",", "")) == 0
