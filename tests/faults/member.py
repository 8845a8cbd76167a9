"""A daemon of a case: its log, its end, its pages."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

PATIENCE_SECONDS = 90.0


def wait_for(what: str, question: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Ask until the answer is true; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := question()):
        assert time.monotonic() < deadline, f"waited {seconds:.0f} s for {what}"
        time.sleep(0.05)
    return answer


class Member:
    """A daemon of a case."""

    def __init__(self, number: int, folder: Path, process: Any) -> None:
        self._log, self._result = folder / f"{number}.log", folder / f"{number}.json"
        self.process = process

    @property
    def log(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    @property
    def last_line(self) -> str:
        return self.log.splitlines()[-1]

    @property
    def result(self) -> dict[str, Any]:
        """What it wrote of itself at its end."""
        found: dict[str, Any] = json.loads(self._result.read_text())
        return found

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Wait for its end; the exit code, or the signal's number below zero."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.signal(signal.SIGUSR1)
            time.sleep(1)
        assert self.process.exitcode is not None, f"no end within {seconds:.0f} s\n{self.log}"
        return int(self.process.exitcode)

    def ended(self, code: int, said: str = "", seconds: float = PATIENCE_SECONDS) -> str:
        """Wait for its end, with this exit code; give the one line that it said."""
        found = self.wait(seconds)
        assert found == code, f"exit code {found}, not {code}\n{self.log}"
        if code > 0:
            assert self.last_line.startswith("stream-moe: "), self.log
            assert "\nTraceback" not in self.log, self.log
            assert said in self.last_line, self.last_line
        return self.last_line

    def stopped(self) -> None:
        """Wait until it stopped itself (SIGSTOP)."""
        status = Path(f"/proc/{self.process.pid}/stat")
        wait_for("the stop", lambda: status.read_text().rsplit(")", 1)[1].split()[0] == "T")

    def close(self) -> None:
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    def page(self, path: str) -> tuple[int, str]:
        """Ask its HTTP server; status and text."""
        words = wait_for("the address of the metrics", lambda: [w for w in self.log.split() if "metrics=" in w])
        try:
            with urllib.request.urlopen(words[0].removeprefix("metrics=") + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def ready(self) -> bool:
        try:
            return self.page("readyz")[0] == 200
        except OSError:
            return False

    def metrics(self) -> Counter[str]:
        """Each metric's sum over its labels, and each by the value of its labels, as name{value}."""
        time.sleep(0.3)  # a page is rendered at most four times a second
        found: Counter[str] = Counter()
        for family in text_string_to_metric_families(wait_for("the metrics", self._metrics)):
            for sample in family.samples:
                found[sample.name] += sample.value
                for value in sample.labels.values():
                    found[f"{sample.name}{{{value}}}"] += sample.value
        return found

    def _metrics(self) -> str | None:
        status, text = self.page("metrics")
        return text if status == 200 else None  # one address may be told to ask less often

    def reported(self) -> Counter[str] | None:
        """The same, None while the latest report is that of a block."""
        found = self.metrics()
        return found if found["stream_moe_block_size_events"] == 0 else None
