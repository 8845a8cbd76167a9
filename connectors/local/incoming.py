"""Where lines come from: a pipe, or the files of a folder as they arrive."""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stream_moe.errors import ConfigError, LogError

CHUNK_BYTES = 1 << 18
LONGEST = 1 << 20  # bytes of a line; of a longer one so many and one are kept, which make it a dead letter
SCAN_SECONDS = 0.5
REST_SECONDS = 2.0  # a last line without its end is one once its file has been left alone so long
ENDINGS = (".json", ".jsonl", ".ndjson", ".log")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Taken:
    """Lines, and where in which file the next one begins ("" = no file)."""

    lines: list[bytes]
    file: str = ""
    place: int = 0


class Incoming(Protocol):
    """Lines as they come. What was taken is put into the log before more is asked for."""

    def resume(self, places: Mapping[str, int]) -> None:
        """Go on behind what was taken of each file."""

    def take(self, timeout: float) -> Taken | None:
        """Return the next lines, None if none came within so many seconds; EOFError at the end."""


class Splitter:
    """Takes bytes apart into lines, of which none takes more than a bound of memory.

    Examples
    --------
    >>> splitter = Splitter()
    >>> splitter.feed(b"one\\ntw"), splitter.feed(b"o\\r\\n\\n"), splitter.rest()
    ([b'one'], [b'two'], [])
    """

    def __init__(self) -> None:
        self._begun = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that end in `data`; empty ones are none."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0], self._begun = self._begun + lines[0], b""
        self._begun = (self._begun + rest)[: LONGEST + 2]
        return [each[: LONGEST + 1] for line in lines if (each := line.removesuffix(b"\r"))]

    def rest(self) -> list[bytes]:
        """Return what came behind the last end of a line."""
        rest, self._begun = self._begun[: LONGEST + 1], b""
        return [rest] if rest else []


class InputLines:
    """Lines of a pipe; what a process that died had read of it, and not put into its log, is gone with the pipe.

    Parameters
    ----------
    descriptor
        Of the open file; 0 is standard input.
    """

    def __init__(self, descriptor: int = 0) -> None:
        self._descriptor, self._splitter, self._ended = descriptor, Splitter(), False

    def resume(self, places: Mapping[str, int]) -> None:
        """Do nothing: what comes is new."""

    def take(self, timeout: float) -> Taken | None:
        """Return the lines that came; EOFError at the end of the pipe."""
        if self._ended:
            raise EOFError
        try:
            if not select.select([self._descriptor], [], [], timeout)[0]:
                return None
            data = os.read(self._descriptor, CHUNK_BYTES)
        except OSError as error:
            raise LogError(f"standard input: {error.strerror}") from error
        lines = self._splitter.feed(data)
        if not data:
            self._ended = True
            lines = self._splitter.rest()
        return Taken(lines) if lines else None


class FolderLines:
    """Lines of a folder's files, in the order of their names as far as they are there; a file may grow at its end.

    Files whose names begin with "." or "_", or do not end as those of JSON lines do, are left alone: write a file
    under such a name and rename it, and no half of it is read.

    Parameters
    ----------
    folder
        Where they arrive.
    finite
        Whether to end when all that is there was taken.
    """

    def __init__(self, folder: Path, *, finite: bool = False) -> None:
        if not folder.is_dir():
            raise ConfigError(f"--source {folder}: no such folder; name one, or - for standard input")
        self._folder, self._finite = folder, finite
        self._places: dict[str, int] = {}
        self._told: set[str] = set()
        self._scanned = 0.0

    def resume(self, places: Mapping[str, int]) -> None:
        """Go on behind what was taken of each file."""
        self._places = dict(places)

    def take(self, timeout: float) -> Taken | None:
        """Return lines of the first file by name that has some; EOFError at the end, where there is one."""
        wait = self._scanned + SCAN_SECONDS - time.monotonic()
        if wait > 0:
            time.sleep(min(wait, timeout))
            if wait > timeout:
                return None
        try:
            for name in self._names():
                if (taken := self._take_of(name)) is not None:
                    self._places[name] = taken.place
                    return taken
        except OSError as error:
            raise LogError(f"--source {self._folder}: {error.strerror}") from error
        self._scanned = time.monotonic()
        if self._finite:
            raise EOFError
        return None

    def _names(self) -> list[str]:
        found = []
        for entry in os.scandir(self._folder):
            if entry.name.startswith((".", "_")) or not entry.is_file():
                continue
            if entry.name.endswith(ENDINGS):
                found.append(entry.name)
            elif entry.name not in self._told:
                self._told.add(entry.name)
                _log.warning("%s is left alone: read are %s, a record a line", entry.name, ", ".join(ENDINGS))
        return sorted(found)

    def _take_of(self, name: str) -> Taken | None:
        """Return the next whole lines of a file."""
        path, place = self._folder / name, self._places.get(name, 0)
        about = path.stat()
        if about.st_size < place and name not in self._told:
            self._told.add(name)
            _log.warning("%s is shorter than what was read of it: only what is new behind that place is read", name)
        if about.st_size <= place:
            return None
        with path.open("rb") as file:
            file.seek(place)
            data = file.read(CHUNK_BYTES)
            whole = data.rfind(b"\n") + 1
            if not whole and len(data) < CHUNK_BYTES:  # its last line
                rests = time.time() - about.st_mtime >= REST_SECONDS
                return Taken([data[: LONGEST + 1]], name, place + len(data)) if self._finite or rests else None
            splitter = Splitter()
            if whole:
                return Taken(splitter.feed(data[:whole]), name, place + whole)
            while data and b"\n" not in data:  # a line beyond all bounds
                splitter.feed(data)
                data = file.read(CHUNK_BYTES)
            end = data.find(b"\n") + 1
            return Taken(splitter.feed(data[:end]) or splitter.rest(), name, file.tell() - len(data) + end)
