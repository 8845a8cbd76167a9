"""`run --source`: lines of a pipe or of a folder's files, exactly once, whatever dies in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from connectors.local import FileSink, FolderLines, InputLines, LocalLog, LocalSource
from connectors.local.incoming import LONGEST, Splitter, Taken
from stream_moe.engine.codec import JsonCodec
from stream_moe.errors import EndOfLogError, LogError
from stream_moe.streams import open_stream
from stream_moe.types import DeadLetter, Outputs

EVENTS = 3000


@pytest.fixture(scope="module")
def lines() -> list[bytes]:
    source = open_stream("sea_a", seed=1)
    return JsonCodec(source.schema).encode_events(next(iter(source.blocks(EVENTS))))


def run(
    source: str, state: Path, *more: str, given: bytes | None = None, fail_at: str = "none"
) -> tuple[int, Any, str]:
    """Run the daemon over it; exit code, result, stderr and what it printed."""
    result = state.with_suffix(".json")
    command = [sys.executable, "-m", "stream_moe", "run", "--source", source, "--state-dir", str(state), "--json",
               str(result), "--schema", "sea_a", "--model", "naive-bayes", "--metrics-port", "0", "--block-rows",
               "100", "--checkpoint-events", "700", "--quiet", *more]  # fmt: skip
    environment = {**os.environ, "STREAM_MOE_FAIL_AT": fail_at}
    done = subprocess.run(command, input=given, capture_output=True, timeout=100, env=environment, check=False)
    found = json.loads(result.read_text()) if done.returncode == 0 else None
    return done.returncode, found, done.stderr.decode() + done.stdout.decode()


def predictions(out: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (out / "predictions.jsonl").read_bytes().splitlines()]


def test_a_folder_is_worked_off_exactly_once_over_kills(lines: list[bytes], tmp_path: Path) -> None:
    """Killed in the middle of a block, before a commit and behind one; files go on arriving in between."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    (whole / "all.jsonl").write_bytes(b"\n".join(lines))
    _, undisturbed, _ = run(str(whole), tmp_path / "one", "--until-caught-up")
    third = EVENTS // 3
    for n, place in enumerate(("stepped:8", "committed:6", None)):
        content = b"".join(line + b"\n" for line in lines[n * third : (n + 1) * third])
        (parts / f"{n}.jsonl").write_bytes(content)
        code, found, said = run(str(parts), tmp_path / "two", "--until-caught-up", fail_at=place or "none")
        assert code == (0 if place is None else -9), said
    assert found["partitions"][0]["state_digest"] == undisturbed["partitions"][0]["state_digest"]
    assert predictions(tmp_path / "two" / "out") == predictions(tmp_path / "one" / "out")
    assert predictions(tmp_path / "two" / "out") == [str(n) for n in range(EVENTS)]


def test_a_pipe_goes_on_where_the_process_before_stopped(lines: list[bytes], tmp_path: Path) -> None:
    first, rest = b"\n".join(lines[:1000]) + b"\n", b"\n".join([b"{", *lines[1000:]])
    code, _, said = run("-", tmp_path / "s", given=first, fail_at="stepped:5")
    assert code == -9, said
    # Those that lay in the log come first, then what is in the pipe now.
    code, found, said = run("-", tmp_path / "s", "--predictions", "-", given=rest)
    assert code == 0, said
    assert found["events"] == EVENTS
    assert found["dead_letters"] == {"bad-json": 1}
    answered = [json.loads(line)["id"] for line in said.splitlines() if line.startswith('{"id"')]
    assert predictions(tmp_path / "s" / "out") + answered == [str(n) for n in range(EVENTS)]
    (letter,) = (tmp_path / "s" / "out" / "dead-letters.jsonl").read_text().splitlines()
    assert json.loads(letter) == {
        "offset": 1000, "reason": "bad-json", "value": "{",
        "message": json.loads(letter)["message"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--source", "/nowhere"], "--source /nowhere: no such folder"),
        (["--source", "-", "--labels", "x"], "--labels needs Kafka"),
        (["--source", "-", "--state-dir", "s3://b/x"], "with --source a directory"),
        (["--source", "-", "--predictions", "a/b"], "is no name of a file"),
        (["--source", "-", "--dead-letters", "-"], "is no name of a file"),
        (["--source", "-", "--predictions", "x", "--dead-letters", "x"], "each needs a file of its own"),
        (["--source", "-", "--model-per", "key"], "needs records with keys"),
        (["--source", "-", "--guarantee", "at-least-once"], "choose exactly-once"),
    ],
)
def test_options_that_do_not_fit_are_one_line(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    from stream_moe.cli import main

    rest = [] if "--state-dir" in arguments else ["--state-dir", str(tmp_path / "s")]
    monkeypatch.setattr(sys, "argv", ["stream-moe", "run", *arguments, *rest, "--metrics-port", "0", "--quiet"])
    with pytest.raises(SystemExit) as ended:
        main()
    err = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in err
    assert len(err.splitlines()) == 1


def test_lines_are_whole_and_bounded() -> None:
    splitter = Splitter()
    found = splitter.feed(b"a\nb" + b"x" * 3 * LONGEST)
    found += splitter.feed(b"y" * LONGEST) + splitter.feed(b"\nc\n")
    assert [len(line) for line in found] == [1, LONGEST + 1, 1]


def test_a_pipe_is_read_to_its_end() -> None:
    out, into = os.pipe()
    incoming = InputLines(out)
    assert incoming.take(0.01) is None
    os.write(into, b"a\nb")
    assert incoming.take(1.0) == Taken([b"a"])
    os.close(into)
    assert incoming.take(1.0) == Taken([b"b"])
    with pytest.raises(EOFError):
        incoming.take(1.0)
    os.close(out)


def take(incoming: FolderLines, seconds: float = 5.0) -> list[bytes]:
    deadline, found = time.monotonic() + seconds, list[bytes]()
    while time.monotonic() < deadline and not found:
        if (taken := incoming.take(0.1)) is not None:
            found = taken.lines
    return found


def test_a_folders_files_are_read_as_they_arrive_and_grow(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    incoming = FolderLines(tmp_path)
    (tmp_path / "b.jsonl").write_bytes(b"1\n2\nhal")
    (tmp_path / ".hidden.jsonl").write_bytes(b"no\n")
    (tmp_path / "table.csv").write_bytes(b"no\n")
    assert take(incoming) == [b"1", b"2"]
    with (tmp_path / "b.jsonl").open("ab") as file:
        file.write(b"f\n")
    (tmp_path / "a.jsonl").write_bytes(b"")  # nothing in it yet
    assert take(incoming) == [b"half"]
    (tmp_path / "c.jsonl").write_bytes(b"last")
    os.utime(tmp_path / "c.jsonl", (time.time() - 60,) * 2)  # left alone: its last line is one
    assert take(incoming) == [b"last"]
    (tmp_path / "b.jsonl").write_bytes(b"9\n")
    (tmp_path / "d.jsonl").write_bytes(b"x" * 3 * LONGEST + b"\nbehind\n")
    assert [len(line) for line in take(incoming)] == [LONGEST + 1]
    assert take(incoming) == [b"behind"]
    assert caplog.text.count("table.csv is left alone") == 1
    assert caplog.text.count("b.jsonl is shorter") == 1
    again = FolderLines(tmp_path, finite=True)
    again.resume({"b.jsonl": 9, "c.jsonl": 4, "d.jsonl": (tmp_path / "d.jsonl").stat().st_size})
    with pytest.raises(EOFError):
        again.take(1.0)


def test_what_a_dead_process_wrote_and_did_not_commit_is_cut_off(tmp_path: Path) -> None:
    log = LocalLog(tmp_path / "log")
    sink = FileSink(log, "g", tmp_path, "predictions", "dead-letters", "drifts")
    sink.open(0)
    letter = DeadLetter(4, 0, None, b"\xff", "decode", "bad-utf8", "why")
    sink.commit(0, Outputs(5, [(None, b"one")], [letter], [b"{}"]))
    log.close()
    for name in ("predictions", "dead-letters", "drifts"):
        with (tmp_path / f"{name}.jsonl").open("ab") as file:
            file.write(b"not committed\n")
    log = LocalLog(tmp_path / "log")
    assert log.committed("g") == (5, None)
    FileSink(log, "g", tmp_path, "predictions", "dead-letters", "drifts").open(0)
    assert (tmp_path / "predictions.jsonl").read_bytes() == b"one\n"
    assert json.loads((tmp_path / "dead-letters.jsonl").read_bytes())["value_base64"] == "/w=="
    assert (tmp_path / "drifts.jsonl").read_bytes() == b"{}\n"
    (tmp_path / "predictions.jsonl").rename(tmp_path / "moved")  # and a new one of the same name, longer
    (tmp_path / "predictions.jsonl").write_bytes(b"somebody else's\n")
    FileSink(log, "g", tmp_path, "predictions", "dead-letters").open(0)
    assert (tmp_path / "predictions.jsonl").read_bytes() == b"somebody else's\n"
    log.close()


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    log = LocalLog(tmp_path / "log")
    code = (
        f"from connectors.local import LocalLog; from pathlib import Path; LocalLog(Path({str(tmp_path / 'log')!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "LogError" in done.stderr
    assert "end the other process" in done.stderr
    log.close()
    (tmp_path / "other").write_bytes(b"no database" * 100)
    with pytest.raises(LogError, match="move it away to begin anew"):
        LocalLog(tmp_path / "other")


def test_old_lines_go_when_the_position_is_far_ahead(tmp_path: Path) -> None:
    log = LocalLog(tmp_path / "log", kept=1000)
    log.append(Taken([b"x"] * 60_000, "a.jsonl", 7), 5)
    assert log.bounds() == (0, 60_000)
    log.commit("g", 50_000, None, [])
    assert log.bounds() == (0, 60_000)
    log.commit("g", 60_000, None, [])
    assert log.bounds() == (59_000, 60_000)
    assert log.places() == {"a.jsonl": 7}
    assert log.read(59_999, 10) == [(59_999, 5, b"x")]
    log.close()


def test_lines_wait_while_the_log_takes_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(b"1\n2\n")
    log = LocalLog(tmp_path / "log")
    source = LocalSource(log, FolderLines(tmp_path / "in", finite=True), "g", "in")
    source.open()
    assert [change.kind for change in source.changes()] == ["assigned"]
    assert source.poll(10, 0.0) == []  # nothing before it is sought
    source.seek(0, 0)
    pages = log._db.execute("pragma page_count").fetchone()[0]
    log._db.execute(f"pragma max_page_count = {pages}")  # as a full disk
    taken = Taken([b"z" * 10_000], "", 0)
    source._taken = taken
    assert source.poll(10, 0.0) == []
    assert "1 lines wait for it" in caplog.text
    log._db.execute("pragma max_page_count = 100000")
    assert [batch.values for batch in source.poll(10, 0.0)] == [[b"z" * 10_000]]
    assert [batch.values for batch in source.poll(10, 0.0)] == [[b"1", b"2"]]
    with pytest.raises(EndOfLogError):
        source.poll(10, 1.0)
    log.close()
