"""Finished runs on disk: a file each, and all of them as one CSV and one JSON Lines file.

A file appears under its name only when it is whole, so after a kill a run is there or it is not. The two tables are
written anew from the runs whenever one is added; they hold nothing that the runs do not.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stream_moe.errors import ConfigError, StreamMoeError
from stream_moe.experiments.plan import Experiment, Run
from stream_moe.shown import cell

COLUMNS = (
    "stream", "model", "settings", "seed", "label_delay", "folds", "status", "reason", "events", "accuracy", "kappa",
    "kappa_majority", "kappa_temporal", "log_loss", "g_mean", "calibration_error", "drifts", "seconds", "cpu_seconds",
    "startup_seconds", "events_per_second", "peak_memory_bytes", "state_digest", "key",
)  # fmt: skip
BULKY = ("timeline", "experts", "specialization")  # only in the file of the run


class StoreFullError(StreamMoeError):
    """Nothing more can be written; what was finished before is kept."""

    exit_code = 1


class RunStore:
    """The directory of an experiment, made if it is not there; ConfigError if it cannot be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._runs = folder / "runs"
        self._results: dict[str, dict[str, Any]] = {}
        self._failed: dict[str, dict[str, Any]] = {}
        try:
            self._runs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{folder}: {error.strerror}; name a directory you may write to with --out") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other experiments out of the directory; the kernel gives the lock back when this process ends."""
        path = self.folder / ".lock"
        try:
            file = path.open("w")
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}; name a directory you may write to with --out") from None
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise ConfigError(f"{self.folder}: another experiment is writing there; wait, or use --out") from None
            for torn in self._runs.glob("*.part"):
                torn.unlink(missing_ok=True)
            yield

    def describe(self, experiment: Experiment) -> None:
        """Write experiment.json: what was asked for, for whoever reads the results."""
        self._write(self.folder / "experiment.json", experiment.model_dump_json(indent=2) + "\n")

    def find(self, run: Run) -> dict[str, Any] | None:
        """Return the result of a run that was finished, now or in an earlier life."""
        key = run.key
        path = self._runs / f"{key}.json"
        if key not in self._results and path.exists():
            self._results[key] = read_result(path)
        return self._results.get(key)

    def add(self, run: Run, result: dict[str, Any]) -> dict[str, Any]:
        """Keep a finished run; return what is kept: the result and what the run was.

        StoreFullError if it cannot be written; nothing of it is left then.
        """
        key = run.key
        kept = {"key": key, "status": "done", **result, **run.to_dict()}
        self._write(self._runs / f"{key}.json", json.dumps(kept, separators=(",", ":")) + "\n")
        self._results[key] = kept
        self._failed.pop(key, None)
        return kept

    def fail(self, run: Run, reason: str) -> None:
        """Note that a run failed; the next start makes it again."""
        self._failed[run.key] = {"key": run.key, "status": "failed", "reason": reason, **run.to_dict()}

    def write_tables(self, runs: Iterable[Run]) -> None:
        """Write results.csv and results.jsonl: a row for each run that is finished or failed, in order."""
        keys = [run.key for run in runs]
        rows = [row for key in keys if (row := self._results.get(key) or self._failed.get(key)) is not None]
        slim = [{name: value for name, value in row.items() if name not in BULKY} for row in rows]
        self._write(self.folder / "results.jsonl", "".join(json.dumps(row) + "\n" for row in slim))
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)
        self._write(self.folder / "results.csv", text.getvalue())

    def _write(self, path: Path, text: str) -> None:
        partial = path.with_name(path.name + ".part")
        try:
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
            way_out = "make room" if full else "see to it"
            raise StoreFullError(
                f"{path}: {error.strerror}; the runs finished before are kept: {way_out} and start it again to go on"
            ) from None


_RESULT = "give a file of `replay --json`, or a directory of `experiment`"


def read_experiment(folder: Path) -> dict[str, Any]:
    """Return what `RunStore.describe` wrote; empty where nothing is."""
    path = folder / "experiment.json"
    try:
        return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
    except (OSError, ValueError):
        raise ConfigError(f"{path}: not what `stream-moe experiment` writes; move it away") from None


def read_results(folder: Path) -> list[dict[str, Any]]:
    """Return the finished runs of the latest grid of a directory, in its order; of others, every result in it."""
    table = folder / "results.jsonl"
    if table.is_file():
        try:
            rows = [json.loads(line) for line in table.read_text(encoding="utf-8").splitlines()]
            files = [folder / "runs" / f"{row['key']}.json" for row in rows if row["status"] == "done"]
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"{table}: not what `stream-moe experiment` writes; start that again") from None
    else:
        files = sorted(folder.glob("*.json"))
    if not files:
        raise ConfigError(f"{folder}: no results in it; give a directory of `stream-moe experiment`, or JSON files")
    return [read_result(file) for file in files]


def read_result(path: Path) -> dict[str, Any]:
    """Read a result; ConfigError where the file is not one."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; {_RESULT}") from None
    except ValueError:  # not UTF-8, not JSON
        raise ConfigError(f"{path}: not a result, which is JSON; {_RESULT}") from None
    if not isinstance(result, dict) or not {"model", "stream", "events", "accuracy"} <= result.keys():
        raise ConfigError(
            f"{path}: no result of a replay: model, stream, events and accuracy are not all in it; {_RESULT}"
        )
    return result
