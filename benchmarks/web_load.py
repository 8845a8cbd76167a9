"""Clients of a daemon's HTTP server, kind and unkind, until it is gone.

    python -m benchmarks.web_load PORT [--scrapes 50] [--pages 10] [--slow 20]

So many scrapes and page loads are begun a second, whatever becomes of them; and so many connections each are held
that send a byte a second, that send nothing, and that ask for the page and never read. At the end one line of JSON:
how many answers came, and what the process of the server held (threads, files, memory), early and late.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import time
from pathlib import Path
from typing import Any

PATIENCE = 10.0  # seconds for an answer
MOST_OPEN = 200
EARLY = 3.0  # seconds after which everything is as it stays


class Load:
    """The clients, and what they saw."""

    def __init__(self, port: int, pid: int | None) -> None:
        self.port, self.pid = port, pid
        self.asked, self.answered, self.gone = 0, 0, False
        self.open = 0
        self.early: dict[str, int] = {}
        self.late: dict[str, int] = {}

    async def ask(self, path: str) -> None:
        """Read one answer to its end."""
        self.asked += 1
        self.open += 1
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                    answer = await reader.read()
                    self.answered += answer.startswith(b"HTTP/1.0 200")
                finally:
                    writer.close()
        except ConnectionRefusedError:
            self.gone = True
        except (OSError, TimeoutError):
            pass
        finally:
            self.open -= 1

    async def every(self, rate: float, path: str) -> None:
        tasks, begin, n = set[asyncio.Task[None]](), time.monotonic(), 0
        while not self.gone and rate:
            n += 1
            if self.open < MOST_OPEN:
                task = asyncio.ensure_future(self.ask(path))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
            await asyncio.sleep(max(0.0, begin + n / rate - time.monotonic()))
        for task in tasks:
            task.cancel()

    async def hold(self, first: bytes, every_second: bytes) -> None:
        """Hold a connection, never read, and open it again when it is cut."""
        while not self.gone:
            with contextlib.suppress(OSError), socket.socket() as held:
                held.setblocking(False)
                await asyncio.get_running_loop().sock_connect(held, ("127.0.0.1", self.port))
                if first:
                    held.send(first)
                for _ in range(10):
                    await asyncio.sleep(1.0)
                    if every_second:
                        held.send(every_second)
            await asyncio.sleep(0.1)

    async def watch(self) -> None:
        """Look at the server's process every second."""
        begin = time.monotonic()
        while self.pid is not None and not self.gone:
            await asyncio.sleep(1.0)
            with contextlib.suppress(OSError):
                found = held_by(self.pid)
                if time.monotonic() - begin >= EARLY and not self.early:
                    self.early = found
                self.late = found


def held_by(pid: int) -> dict[str, int]:
    """Threads, open files and resident memory (MiB) of a process."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
    return {"threads": int(status["Threads"]), "files": files, "MiB": int(status["VmRSS"].split()[0]) // 1024}


async def run(port: int, pid: int | None, scrapes: float, pages: float, slow: int) -> dict[str, Any]:
    """Load the server until it refuses a connection."""
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            break
        await asyncio.sleep(0.05)
    load, begin = Load(port, pid), time.monotonic()
    holders = [(b"GET /", b"G"), (b"", b""), (b"GET / HTTP/1.0\r\n\r\n", b"")]
    held = [asyncio.ensure_future(load.hold(*holders[i % 3])) for i in range(3 * slow)]
    probe = asyncio.ensure_future(load.every(1.0, "/healthz"))
    watch = asyncio.ensure_future(load.watch())
    await asyncio.gather(load.every(scrapes, "/metrics"), load.every(pages, "/"), probe)
    for task in (*held, watch):
        task.cancel()
    seconds = time.monotonic() - begin
    return {
        "asked_per_second": load.asked / seconds,
        "answered_per_second": load.answered / seconds,
        "early": load.early,
        "late": load.late,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("port", type=int)
    parser.add_argument("--pid", type=int, help="process of the server, to look at")
    parser.add_argument("--scrapes", type=float, default=50.0)
    parser.add_argument("--pages", type=float, default=10.0)
    parser.add_argument("--slow", type=int, default=20)
    options = parser.parse_args()
    print(json.dumps(asyncio.run(run(options.port, options.pid, options.scrapes, options.pages, options.slow))))


if __name__ == "__main__":
    main()
