"""Sparse rows: files in libsvm's format, dicts of words, and the model made for them under the three laws."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import pytest

from stream_moe import Schema, SparseDriftMoE, SparseRows, build_model, open_stream, replay
from stream_moe.cli import main
from stream_moe.errors import CheckpointError, ConfigError, DataError
from stream_moe.experts.sparse.buckets import grown, new_rows
from stream_moe.experts.sparse.columns import MARKS, UsefulColumns
from stream_moe.experts.sparse.naive_bayes import SparseNaiveBayes
from stream_moe.experts.sparse.softmax import SparseSoftmax
from stream_moe.sparse_rows import BUCKETS, bucket_of
from stream_moe.streams.npz import write_npz
from stream_moe.types import Int32

CLASSES = ("ham", "spam")
SCHEMA = Schema((), CLASSES, sparse=True)


def mails(n: int, seed: int = 1) -> tuple[list[dict[str, float]], Int32]:
    """Mails of 5 to 30 words of 5,000, of which each class prefers some; halfway the spammers take new ones."""
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.3).astype(np.int32)
    found = []
    for t in range(n):
        words = (rng.zipf(1.4, rng.integers(5, 30)) % 5000).tolist()
        own = rng.integers(0, 40, 3) + (5000 + 100 * y[t] + (50 if t > n // 2 and y[t] else 0))
        found.append({f"w{word}": float(1 + word % 3) for word in [*words, *own.tolist()]})
    return found, y


def as_libsvm(events: list[dict[str, float]], y: Int32) -> str:
    return "".join(
        " ".join([CLASSES[label], *(f"{name}:{value:g}" for name, value in event.items())]) + "\n"
        for event, label in zip(events, y.tolist(), strict=True)
    )


EVENTS, Y = mails(900)
ROWS: Any = SparseRows.of(EVENTS)


def learnt(model: SparseDriftMoE, cut: int) -> Any:
    return np.concatenate([model.step(ROWS[i : i + cut], Y[i : i + cut]) for i in range(0, len(Y), cut)])


# ---- the laws


@pytest.fixture(scope="module")
def whole() -> tuple[str, Any]:
    model = SparseDriftMoE(SCHEMA, seed=3)
    proba = learnt(model, 10_000)
    return model.digest, proba


@pytest.mark.parametrize("cut", [1, 7, 256])
def test_blocks_change_nothing(whole: tuple[str, Any], cut: int) -> None:
    model = SparseDriftMoE(SCHEMA, seed=3)
    assert np.array_equal(learnt(model, cut), whole[1])
    assert model.digest == whole[0]


def test_threads_change_nothing(whole: tuple[str, Any]) -> None:
    model = SparseDriftMoE(SCHEMA, seed=3, threads=2)
    assert np.array_equal(learnt(model, 300), whole[1])
    assert model.digest == whole[0]


@pytest.mark.parametrize("at", [3, 160, 161, 500])  # the first places are given at about 160
def test_no_prediction_depends_on_its_own_label_or_a_later_one(whole: tuple[str, Any], at: int) -> None:
    changed = Y.copy()
    changed[at:] = 1 - changed[at:]
    proba = SparseDriftMoE(SCHEMA, seed=3).step(ROWS, changed)
    assert np.array_equal(proba[: at + 1], whole[1][: at + 1])
    assert not np.array_equal(proba, whole[1])


@pytest.mark.parametrize("delay", [0, 13])
def test_a_replay_does_not_depend_on_its_chunks(tmp_path: Path, delay: int) -> None:
    (tmp_path / "mails.libsvm").write_text(as_libsvm(EVENTS, Y))
    stream = open_stream(str(tmp_path / "mails.libsvm"))
    found = [
        replay(stream, lambda schema: build_model("driftmoe", schema), chunk=chunk, label_delay=delay)
        for chunk in (1, 50, 4096)
    ]
    assert len({each.state_digest for each in found}) == 1
    assert len({each.quality.accuracy for each in found}) == 1
    assert found[0].quality.accuracy > 0.75
    assert found[0].quality.events == 900


def test_a_snapshot_goes_on_as_if_nothing_had_been() -> None:
    first = SparseDriftMoE(SCHEMA, seed=3)
    first.step(ROWS[:500], Y[:500])
    other = SparseDriftMoE(SCHEMA, seed=3)
    other.restore(first.snapshot())
    assert other.digest == first.digest
    assert np.array_equal(first.step(ROWS[500:], Y[500:]), other.step(ROWS[500:], Y[500:]))
    assert other.digest == first.digest
    with pytest.raises(CheckpointError):
        SparseDriftMoE(SCHEMA, seed=3, columns=32).restore(first.snapshot())


def test_a_model_is_kept_in_a_file(tmp_path: Path) -> None:
    model = SparseDriftMoE(seed=2)
    for event, label in zip(EVENTS[:60], Y.tolist(), strict=False):
        model.learn_one(event, CLASSES[label])
    model.save(tmp_path / "mails.model")
    again = SparseDriftMoE.load(tmp_path / "mails.model")
    assert again.digest == model.digest
    assert again.predict_proba_one(EVENTS[70]) == model.predict_proba_one(EVENTS[70])
    assert (tmp_path / "mails.model").stat().st_size < 2**20  # what is not used is not in it


def test_asking_changes_nothing() -> None:
    model = SparseDriftMoE(SCHEMA, seed=3)
    model.step(ROWS[:300], Y[:300])
    before = model.digest
    asked = model.predict_proba_many(ROWS[300:])
    assert model.digest == before
    assert np.array_equal(asked[0], model.step(ROWS[300:301], Y[300:301])[0])


# ---- what it is worth


def test_words_tell_the_classes_and_columns_are_given_to_the_best() -> None:
    events, y = mails(4000, seed=5)
    model, rows = SparseDriftMoE(SCHEMA), cast("Any", SparseRows.of(events))
    proba = model.step(rows, y)
    right = proba.argmax(1) == y
    assert right[1000:2000].mean() > 0.95
    assert right[3000:].mean() > 0.95  # after the spammers' new words
    columns = model.pool.columns  # type: ignore[attr-defined]
    marks = [mark for mark, _ in MARKS if mark <= y.sum()]
    assert columns.given == 8 * len(marks)
    telling = {bucket_of(f"w{word}") for word in range(5000, 5200)}
    assert len(telling & set(columns._bucket.tolist())) > 0.8 * columns.given


@pytest.mark.parametrize("expert", [SparseSoftmax(SCHEMA), SparseNaiveBayes(SCHEMA)])
def test_an_expert_alone_learns_and_forgets_nothing_when_classes_come(expert: Any) -> None:
    proba = np.empty((900, 2))
    expert.step(ROWS, Y, np.ones(900), proba)
    assert ((proba.argmax(1) == Y)[450:]).mean() > 0.85
    assert np.allclose(proba.sum(1), 1.0)
    no_label, before, after = np.full(900, -1, np.int32), np.empty((900, 2)), np.empty((900, 3))
    expert.step(ROWS, no_label, np.ones(900), before)
    expert.grow(Schema((), (*CLASSES, "list"), sparse=True))
    expert.step(ROWS, no_label, np.ones(900), after)
    assert np.allclose(after[:, :2], before)
    assert not after[:, 2].any()  # a class that never came
    assert expert.memory_bytes > 0


def test_many_classes_have_fewer_rows_and_add_up_what_meets() -> None:
    old = new_rows(2)
    old[[5, 8192 + 5, 9]] = [[1, 2], [3, 4], [5, 6]]
    new = grown(old, 900)
    assert new.shape == (8192, 900)
    assert new[5, :3].tolist() == [4, 6, 0]
    assert new[9, :3].tolist() == [5, 6, 0]


def test_scaled_values_and_columns_follow_from_what_came_before() -> None:
    columns = UsefulColumns(8, 2)
    rows = SparseRows.of([{"a": 4}, {"a": -8}, {"a": 4}])
    _, scaled = columns.take(rows, np.array([0, 1, 0], np.int32))
    assert scaled.value.tolist() == [1.0, -1.0, 0.5]
    _, asked = columns.take(SparseRows.of([{"a": 16}]), np.array([-1], np.int32), keep=False)
    assert asked.value.tolist() == [1.0]
    _, scaled = columns.take(SparseRows.of([{"a": 4}]), np.array([-1], np.int32))
    assert scaled.value.tolist() == [0.5]


# ---- rows


def test_rows_are_cut_and_picked_as_an_array_is() -> None:
    rng = np.random.default_rng(1)
    dense = rng.integers(0, 3, (20, 6)) * (rng.random((20, 6)) < 0.4)
    rows = SparseRows.of({f"c{j}": int(v) for j, v in enumerate(row)} for row in dense)

    def same(part: SparseRows, of: Any) -> bool:
        again = SparseRows.of({f"c{j}": int(v) for j, v in enumerate(row)} for row in of)
        return all(
            np.array_equal(*pair)
            for pair in ((part.start, again.start), (part.bucket, again.bucket), (part.value, again.value))
        )

    for cut in (slice(0, 0), slice(3, 9), slice(None, None, 3), slice(18, 40), slice(9, 3)):
        assert same(rows[cut], dense[cut])
    picked = rng.integers(0, 20, 30)
    assert same(rows[picked], dense[picked])
    assert same(rows[dense[:, 0] > 0], dense[dense[:, 0] > 0])
    assert same(SparseRows.joined([rows[5:7], SparseRows.empty(), rows[:2]]), np.concatenate([dense[5:7], dense[:2]]))


def test_a_value_is_a_number_a_text_is_a_name_of_its_own_and_what_is_missing_is_left_out() -> None:
    event = {"n": 2, "t": True, "d": np.float64(0.5), "s": "bob", "m": None, "q": "?", "z": 0, 7: 1, "big": 1e300}
    rows = SparseRows.of([event])
    values = {"n": 2.0, "t": 1.0, "d": 0.5, "s=bob": 1.0, "7": 1.0}
    assert dict(zip(rows.bucket.tolist(), rows.value.tolist(), strict=True)) == {
        bucket_of(name): value for name, value in values.items()
    }


def test_rows_that_would_lead_a_kernel_astray_are_refused() -> None:
    model = SparseDriftMoE(SCHEMA)
    start, bucket, value = np.array([0, 1]), np.array([5], np.int32), np.array([1.0], np.float32)
    wrong: Any
    for wrong in (
        SparseRows(np.array([0, 2]), bucket, value),
        SparseRows(np.array([1, 1]), bucket, value),
        SparseRows(start, np.array([BUCKETS], np.int32), value),
        SparseRows(start, np.array([-1], np.int32), value),
        SparseRows(start, bucket, np.array([np.nan], np.float32)),
    ):
        with pytest.raises(DataError, match="rows: "):
            model.step(wrong, np.array([0], np.int32))
    with pytest.raises(DataError, match="sparse"):
        model.step(np.zeros((1, 3), np.float32), np.array([0], np.int32))
    with pytest.raises(ConfigError, match="lists features"):
        SparseDriftMoE(Schema.numeric(2, CLASSES))
    with pytest.raises(ConfigError, match="columns 2"):
        SparseDriftMoE(SCHEMA, columns=2)


# ---- forms of one stream


def test_file_dicts_rows_and_frames_give_one_state(tmp_path: Path) -> None:
    events, y = EVENTS[:150], Y[:150]
    (tmp_path / "mails.svm").write_text(as_libsvm(events, y))
    digests = [replay(open_stream(str(tmp_path / "mails.svm")), lambda s: build_model("driftmoe", s)).state_digest]
    by_dict, by_frame, by_rows = (SparseDriftMoE(SCHEMA) for _ in range(3))
    for event, label in zip(events, y.tolist(), strict=True):
        by_dict.learn_one(event, CLASSES[label])
    by_frame.learn_many(pd.DataFrame(events), pd.Series([CLASSES[label] for label in y]))
    by_rows.learn_many(SparseRows.of(events), y)
    digests += [model.digest for model in (by_dict, by_frame, by_rows)]
    assert len(set(digests)) == 1


def test_labels_may_come_late_to_dicts() -> None:
    model = SparseDriftMoE()
    for event, label in zip(EVENTS[:50], Y.tolist(), strict=False):
        model.learn_one(event, bool(label))
    ticket = model.predict_ticket(EVENTS[60])
    assert set(ticket.probabilities) == {True, False}
    model.learn_one(EVENTS[60], True, ticket=ticket)
    with pytest.raises(DataError, match="learnt before"):
        model.learn_one(EVENTS[60], True, ticket=ticket)


def test_classes_may_come_when_they_come() -> None:
    model = SparseDriftMoE()
    for k in range(40):
        model.learn_one({f"word{k}": 1, "the": 1}, f"class{k}")
    for _ in range(5):
        for k in range(40):
            model.learn_one({f"word{k}": 1, "the": 1}, f"class{k}")
    assert [model.predict_one({f"word{k}": 1}) for k in (0, 20, 39)] == ["class0", "class20", "class39"]


# ---- files


def read(tmp_path: Path, text: str, **options: Any) -> Any:
    (tmp_path / "a.libsvm").write_text(text)
    return open_stream(str(tmp_path / "a.libsvm"), **options)


def test_a_file_is_read_as_it_stands(tmp_path: Path) -> None:
    text = "# made by hand\n+1 300:1 5:2.5e-1  # a comment\n\n-1\t7:-3 qid:4 300:1 300:2\n? 9:nan 8:0 9:1\n400:1\n"
    stream = read(tmp_path, text)
    assert stream.schema == Schema((), ("-1", "1"), sparse=True)
    assert stream.y.tolist() == [1, 0, -1, -1]
    expected = SparseRows.of([{"300": 1, "5": 0.25}, {"7": -3}, {"9": 1}, {"400": 1}])
    assert stream.x[0:1].value.tolist() == expected[0:1].value.tolist()
    assert stream.x.lengths.tolist() == [2, 3, 1, 1]
    assert stream.x[2:].bucket.tolist() == expected[2:].bucket.tolist()
    assert [note.split(":")[0] for note in stream.notes] == [
        "qid says to which query a line belongs", "1 values are missing, infinite or beyond float32",
        "1 entries name what their line has already",
    ]  # fmt: skip


def test_few_numbered_names_are_columns(tmp_path: Path) -> None:
    stream = read(tmp_path, "a 1:0.5 3:2\nb 2:1\n")
    assert [feature.name for feature in stream.schema.features] == ["1", "2", "3"]
    assert stream.x.tolist() == [[0.5, 0, 2], [0, 1, 0]]
    assert [f.name for f in read(tmp_path, "a 0:0.5 2:2\nb 2:1\n").schema.features] == ["0", "1", "2"]
    assert read(tmp_path, "a 257:1\nb 2:1\n").schema.sparse
    assert read(tmp_path, "a word:1\nb 2:1\n").schema.sparse
    dropped = read(tmp_path, "a 1:1 word:1\nb 2:1\n", drop=["word"])
    assert [f.name for f in dropped.schema.features] == ["1", "2"]


def test_names_may_have_colons_in_them(tmp_path: Path) -> None:
    stream = read(tmp_path, "a http://x:1 b:2\nb 3:1\n")
    assert sorted(stream.x[:1].bucket.tolist()) == sorted(bucket_of(name) for name in ("http://x", "b"))
    assert stream.y.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a 1:2\nb 3\n", "line 2: '3' is no NAME:NUMBER"),
        ("a 1:2\nb 3:x\n", "line 2: '3:x' is no NAME:NUMBER"),
        ("a 1:2\nb 3:1_0\n", "line 2: '3:1_0' is no NAME:NUMBER"),
        ("a 1:2\nb :4\n", "line 2: ':4' is no NAME:NUMBER"),
        ("a 1:2\nb 3 4:5:6\n", "line 2: '3' is no NAME:NUMBER"),
        ("a 1:2\nb 3: 4\n", "line 2: '3:' is no NAME:NUMBER"),
        ("", "the file is empty"),
        ("1:2 3:4\n", "no line has a label"),
        ("".join(f"{k}.5 1:1\n" for k in range(1001)), "probably a number to predict"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(tmp_path, text)


def test_options_of_tables_are_refused(tmp_path: Path) -> None:
    for options in ({"label": "y"}, {"nominal": ["a"]}, {"decimal": ","}, {"separator": ";"}, {"delay": "d"}):
        with pytest.raises(DataError, match="leave all but drop and missing out"):
            read(tmp_path, "a 1:2\nb 2:1\n", **options)
    with pytest.raises(DataError, match="no line has a '7'"):
        read(tmp_path, "a 1:2\nb 2:1\n", drop=["7"])
    assert read(tmp_path, "a 1:2\nb 2:1\nnone 3:1\nXX 3:1", missing=["XX"]).y.tolist() == [0, 1, -1, -1]


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["stream-moe", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    found = capsys.readouterr()
    return ended.value.code or 0, found.out, found.err  # type: ignore[return-value]


def test_the_program_says_what_it_does_with_sparse_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mails.libsvm"
    path.write_text(as_libsvm(EVENTS[:300], Y[:300]))
    code, out, _ = run(capsys, "replay", str(path))
    assert code == 0
    assert "300 events, sparse rows of 1" in out
    assert "linear experts and naive Bayes take all names" in out
    code, out, _ = run(capsys, "audit", str(path), "--events", "300", "--probes", "3")
    assert (code, "Honest: every check that could fail passed." in out) == (0, True)
    code, out, _ = run(capsys, "schema", str(path), "--out", str(tmp_path / "s.json"))
    assert (code, '"sparse": true' in (tmp_path / "s.json").read_text()) == (0, True)
    for arguments, said in (
        (["replay", str(path), "--model", "knn"], "knn: takes no sparse rows, which only driftmoe does"),
        (["replay", str(path), "--set", "budget=2"], "no setting 'budget'; its settings are columns, trees"),
        (["export", str(path), "--out", str(tmp_path / "a.npz")], "has sparse rows"),
    ):
        code, _, error = run(capsys, *arguments)
        assert code != 0
        assert said in error
        assert "Traceback" not in error


def test_sparse_rows_do_not_become_an_array(tmp_path: Path) -> None:
    stream = read(tmp_path, "a 1:1 word:1\nb 2:1\n")
    with pytest.raises(ConfigError, match="sparse rows"):
        write_npz(stream, 2, tmp_path / "a.npz")


def test_a_schema_is_sparse_or_lists_features() -> None:
    assert Schema.from_dict(SCHEMA.to_dict()) == SCHEMA
    assert "sparse" not in Schema.numeric(1, CLASSES).to_dict()
    with pytest.raises(ConfigError, match="sparse"):
        Schema.from_dict({"features": [{"name": "a"}], "classes": ["a"], "sparse": True})
