"""A real pseudo-terminal: a command runs in it, and what its screen shows can be read."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import pyte

FAINT, GREY = 2, 90
PATIENCE_SECONDS = 120.0


class Screen(pyte.HistoryScreen):  # type: ignore[misc]  # it has no types
    """As pyte's, which knows no faint letters: they are grey here."""

    def select_graphic_rendition(self, *attributes: int, **rest: Any) -> None:
        grey = [GREY] * (FAINT in attributes)
        super().select_graphic_rendition(
            *(a for a in attributes if a != FAINT or len(attributes) == 1), *grey, **rest
        )


class Terminal:
    """A command in a pseudo-terminal of so many columns and rows; a context, at whose end the command is killed.

    Attributes
    ----------
    raw
        All bytes that it wrote.
    code
        Its exit code; None while it runs.
    """

    def __init__(self, command: Sequence[str], columns: int = 80, rows: int = 24, **environment: str) -> None:
        self.screen = Screen(columns, rows, history=1000)
        self.raw = b""
        self.code: int | None = None
        self._stream = pyte.ByteStream(self.screen)
        everything = {"TERM": "xterm-256color"} | environment
        self.pid, self._end = pty.fork()
        if self.pid == 0:  # pragma: no cover
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            # A size in the environment, as some test runners set it, would be believed before the terminal's own.
            inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
            os.execvpe(command[0], list(command), inherited | everything)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.code is None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self._end)

    @property
    def lines(self) -> list[str]:
        """What the screen shows, line by line, without blanks at their ends."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def everything(self) -> list[str]:
        """What has scrolled out of the screen, and the screen."""
        above = ["".join(line[x].data for x in sorted(line)).rstrip() for line in self.screen.history.top]
        return above + self.lines

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Let it run until something is the case; AssertionError where it ends before, or takes too long."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert time.monotonic() < deadline, "\n".join(self.lines)
            assert self._read(), "\n".join(self.everything)

    def wait(self) -> int:
        """Let it run to its end; its exit code."""
        while self._read():
            pass
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def type(self, text: str) -> None:
        os.write(self._end, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._end, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def _read(self) -> bool:
        """Take what it wrote within a moment; False at its end."""
        if not select.select([self._end], [], [], 0.05)[0]:
            return True
        try:
            read = os.read(self._end, 1 << 16)
        except OSError:  # what Linux says when the other end is closed
            return False
        self.raw += read
        self._stream.feed(read)
        return bool(read)
