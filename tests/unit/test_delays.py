"""Labels that arrive late in a replay, each after a delay of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_moe.engine.replay import replay
from stream_moe.errors import ConfigError, DataError
from stream_moe.models.catalogue import build_model
from stream_moe.models.contract import BlockClassifier
from stream_moe.streams import open_stream
from stream_moe.streams.files import FileStream
from stream_moe.types import UNLABELLED, Int64, Schema

ELECTRICITY = open_stream("electricity")
EVENTS = 3000


def make(schema: Schema) -> BlockClassifier:
    return build_model("naive-bayes", schema)


def stream(delays: Int64, missing: float = 0.0) -> FileStream:
    """The first events of electricity, with a delay for each label, some of which are missing."""
    block = next(ELECTRICITY.blocks(len(delays)))
    lost = np.random.default_rng(3).random(len(delays)) < missing
    y = np.where(lost, np.int32(UNLABELLED), block.y).astype(np.int32)
    return FileStream("delayed", ELECTRICITY.schema, block.x, y, delays)


def event_by_event(delayed: FileStream) -> tuple[str, int, int]:
    """What the page says a delay means, in plain words: digest, and how many were right of how many scored."""
    assert delayed.delays is not None
    learner, n = make(delayed.schema), delayed.n_events
    said: list[int] = []
    order = [(t + d, t) for t, d in enumerate(delayed.delays.tolist()) if d >= 0 and delayed.y[t] != UNLABELLED]
    right = scored = 0

    def learn(t: int) -> None:
        nonlocal right, scored
        learner.learn_many(delayed.x[t : t + 1], delayed.y[t : t + 1])
        right, scored = right + (said[t] == delayed.y[t]), scored + 1

    for now in range(n):
        at_once = delayed.delays[now] == 0
        label = delayed.y[now : now + 1] if at_once else np.full(1, UNLABELLED, np.int32)
        said.append(int(learner.step(delayed.x[now : now + 1], label)[0].argmax()))
        if at_once and label[0] != UNLABELLED:
            right, scored = right + (said[now] == label[0]), scored + 1
        for _, t in sorted(pair for pair in order if pair[0] == now and pair[1] != now):
            learn(t)
    for _, t in sorted(pair for pair in order if pair[0] >= n):
        learn(t)
    return learner.digest, right, scored


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0, 1, 3, 40]), st.sampled_from([1, 7, 64, 500]))
def test_each_label_arrives_when_its_delay_says(seed: int, longest: int, chunk: int) -> None:
    delays = np.random.default_rng(seed).integers(-1, longest + 1, 150)
    delayed = stream(delays, missing=0.1)
    digest, right, scored = event_by_event(delayed)
    found = replay(delayed, make, chunk=chunk)
    assert found.state_digest == digest
    assert found.quality.events == scored
    assert round(found.quality.accuracy * scored) == right


@pytest.mark.parametrize("model", ["driftmoe-data", "hoeffding-tree"])
def test_chunks_do_not_matter_and_a_constant_column_is_one_delay_for_all(model: str) -> None:
    def run(source: FileStream, **options: int) -> tuple[str, float, float]:
        found = replay(source, lambda schema: build_model(model, schema), **options)  # type: ignore[arg-type]
        return found.state_digest, found.quality.accuracy, found.quality.log_loss

    constant = stream(np.full(EVENTS, 500))
    expected = run(replace(constant, delays=None), label_delay=500)
    assert run(constant) == run(constant, chunk=331) == expected
    scattered = stream(np.random.default_rng(1).integers(-1, 900, EVENTS))
    assert run(scattered, chunk=97) == run(scattered)


def rows(path: Path, delays: list[str]) -> Path:
    path.write_text("a,late,b,class\n" + "".join(f"{i},{d},{i % 3},{'xy'[i % 2]}\n" for i, d in enumerate(delays)))
    return path


def test_a_column_of_a_file_is_the_delay_and_no_feature(tmp_path: Path) -> None:
    found = open_stream(str(rows(tmp_path / "a.csv", ["0", "2", "", "3.0", "NaN"])), delay="late")
    assert [feature.name for feature in found.schema.features] == ["a", "b"]
    [block] = found.blocks(10)
    assert block.delays is not None
    assert block.delays.tolist() == [0, 2, -1, 3, -1]
    last = tmp_path / "last.csv"
    last.write_text("a,class,late\n1,x,0\n2,y,1\n")
    assert open_stream(str(last), delay="late").schema.classes == ("x", "y")  # the last column that is not the delay


@pytest.mark.parametrize("wrong", ["-1", "1.5", "soon", "inf", "1e300", "9" * 400])
def test_what_is_no_delay_is_named_with_its_line(tmp_path: Path, wrong: str) -> None:
    path = str(rows(tmp_path / "a.csv", ["0", "2", wrong]))
    with pytest.raises(
        DataError, match=r"line 4: .* in 'late' is no delay of a label; give how many events"
    ) as error:
        open_stream(path, delay="late")
    assert repr(wrong[:40]) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_delay_needs_a_column_of_its_own(tmp_path: Path) -> None:
    path = str(rows(tmp_path / "a.csv", ["0", "2"]))
    with pytest.raises(DataError, match="no column 'latte'; the columns are a, late, b, class"):
        open_stream(path, delay="latte")
    with pytest.raises(DataError, match="'class' is the label or a feature already"):
        open_stream(path, label="class", delay="class")
    with pytest.raises(ConfigError, match="is generated and has no column"):
        open_stream("sea_a", delay="late")
    alone = tmp_path / "alone.csv"
    alone.write_text("late\n1\n")
    with pytest.raises(DataError, match="it needs features and a label"):
        open_stream(str(alone), delay="late")


def test_labels_that_never_come_take_no_memory_and_are_not_scored() -> None:
    found = replay(stream(np.full(EVENTS, -1)), make)
    assert (found.events, found.quality.events) == (EVENTS, 0)
