"""Files of JSON lines as the engine's `Sink`: what lies behind the committed length of each is cut off at a start."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from connectors.local.log import LocalLog
from stream_moe.errors import ConfigError, LogError, UnavailableError
from stream_moe.types import DeadLetter, Outputs

STDOUT = "-"


class FileSink:
    """The `Sink` port: the lengths of the files are committed with the position, in the log's database.

    A file that was moved away is begun anew (rotate them while the program is stopped).

    Parameters
    ----------
    log, group
        Where positions are committed, and whose.
    folder
        For the files; made where it is missing.
    predictions, dead_letters, drifts
        Names of files, to which .jsonl is added; None = none. For predictions "-" is standard output, which cannot be
        cut off: a block whose commit was interrupted is then written again.
    """

    def __init__(
        self, log: LocalLog, group: str, folder: Path, predictions: str, dead_letters: str, drifts: str | None = None
    ) -> None:
        self._log, self._group, self._folder = log, group, folder
        self._names = {"predictions": predictions, "dead letters": dead_letters}
        if drifts is not None:
            self._names["drifts"] = drifts
        for what, name in self._names.items():
            if Path(name).name != name or (name == STDOUT and what != "predictions"):
                raise ConfigError(f"{what}: {name!r} is no name of a file in {folder}; give one without a path")
        if len(set(self._names.values())) < len(self._names):
            raise ConfigError("predictions, dead letters and drifts: each needs a file of its own")

    def open(self, partition: int) -> None:
        """Cut off what a process that died had written and not committed."""
        known, found = self._log.lengths(), []
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for what, name in self._names.items():
                if name == STDOUT:
                    continue
                with self._path(what).open("ab") as file:
                    about = os.fstat(file.fileno())
                    inode, length = known.get(name, (0, 0))
                    if inode == about.st_ino and about.st_size > length:
                        file.truncate(length)
                    found.append(
                        (name, about.st_ino, min(about.st_size, length) if inode == about.st_ino else about.st_size)
                    )
        except OSError as error:
            raise LogError(f"{self._folder}: {error.strerror}; name a folder of this user with --out") from error
        self._log.note(found)

    def commit(self, partition: int, outputs: Outputs) -> None:
        """Append a block's outputs, and commit their lengths with the position."""
        written = [self._append("predictions", [value for _, value in outputs.predictions])]
        written.append(self._append("dead letters", [_letter(letter) for letter in outputs.dead_letters]))
        if "drifts" in self._names:
            written.append(self._append("drifts", outputs.drifts))
        files = [each for each in written if each is not None]
        self._log.commit(self._group, outputs.next_offset, outputs.entry, files)

    def close(self, partition: int) -> None:
        """Do nothing: no file is open between commits."""

    def _path(self, what: str) -> Path:
        return self._folder / f"{self._names[what]}.jsonl"

    def _append(self, what: str, lines: Sequence[bytes]) -> tuple[str, int, int] | None:
        """Write lines; return the file's name, inode and length."""
        try:
            if self._names[what] == STDOUT:
                sys.stdout.buffer.write(_text(lines))
                sys.stdout.buffer.flush()
                return None
            with self._path(what).open("ab") as file:
                file.write(_text(lines))
                file.flush()
                if lines:
                    os.fsync(file.fileno())
                about = os.fstat(file.fileno())
        except BrokenPipeError:
            raise LogError("standard output: nobody reads it any more") from None
        except OSError as error:
            raise UnavailableError(f"{self._path(what)}: {error.strerror}") from error
        return self._names[what], about.st_ino, about.st_size


def _text(lines: Iterable[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def _letter(letter: DeadLetter) -> bytes:
    """Write a dead letter, its value as text, or in base64 where it is none."""
    about: dict[str, Any] = {"offset": letter.offset, "reason": letter.reason, "message": letter.message}
    value = letter.value or b""
    try:
        about["value"] = value.decode()
    except UnicodeDecodeError:
        about["value_base64"] = base64.b64encode(value).decode()
    return json.dumps(about, ensure_ascii=True).encode()
