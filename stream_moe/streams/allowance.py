"""How much a file may become in memory: a kilobyte of a packed file, or of a sparse one, may stand for gigabytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO

from stream_moe.errors import DataError

FREE = 256 << 20  # bytes that any file may become
TIMES = 100  # beyond them: so many times its size on disk
MOST = 16 << 30  # bytes that what is packed may become
MOST_LINE = 16 << 20  # characters of a line, or of a row that goes on over lines
_CELL = 4  # bytes of a value, as float32


class Allowance:
    """What is left of what one file may become; text and values are counted apart.

    Parameters
    ----------
    path
        The file.
    megabytes
        What a user allows; None = 256 MiB or 100 times its size on disk, whichever is more, but 16 GiB at most if it
        is packed.
    packed
        Whether it is.
    """

    def __init__(self, path: Path, megabytes: int | None, *, packed: bool = True) -> None:
        self._path, self._disk = path, path.stat().st_size
        usual = max(FREE, TIMES * self._disk)
        self.most = megabytes << 20 if megabytes is not None else min(usual, MOST) if packed else usual
        self._text = self._values = 0
        self.row = 0  # characters of the row that is being read

    def text(self, more: int) -> None:
        """Count bytes, or characters, that were unpacked; DataError beyond what is allowed."""
        self._text += more
        if self._text > self.most:
            raise self._beyond("unpacks to")

    def values(self, more: int) -> None:
        """Count values of the table; DataError beyond what is allowed."""
        self._values += more * _CELL
        if self._values > self.most:
            raise self._beyond("becomes a table of")

    def lines(self, file: IO[str], *, rows_go_on: bool = False) -> Iterator[str]:
        """Yield the lines of a file, counted.

        DataError for a row that is longer than any may be; where `rows_go_on` over lines, whoever reads them sets
        `row` to 0 at the end of each.
        """
        readline, most = file.readline, self.most
        while line := readline(MOST_LINE + 1):
            length = len(line)
            self._text += length
            self.row += length
            if self.row > MOST_LINE:
                raise DataError(
                    f"{self._path}: a row of more than {MOST_LINE:,} characters; it is no table of events"
                )
            if self._text > most:
                raise self._beyond("unpacks to")
            if not rows_go_on:
                self.row = 0
            yield line

    def _beyond(self, what: str) -> DataError:
        return DataError(
            f"{self._path}: {what} more than {self.most >> 20:,} MiB, and has {self._disk:,} bytes on disk; "
            "if it may, allow it: --unpacked MB (unpacked, in Python)"
        )
