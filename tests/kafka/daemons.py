"""Daemons as processes of their own: one of them, or the members of a group."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from connectors.kafka import KafkaSettings

CLI = [sys.executable, "-m", "stream_moe"]
# A topic that grows is noticed within a second, and a member that is gone within six.
QUICK_CLI = [
    sys.executable,
    "-c",
    "import faulthandler, signal; faulthandler.register(signal.SIGUSR1)\n"  # a member that hangs says where
    "import connectors.kafka.source as source; source.METADATA_SECONDS, source.SESSION_SECONDS = 1.0, 6.0\n"
    "from stream_moe.cli import main; main()",
]


def stream_moe(*arguments: str, kafka: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a command; `kafka` are settings that it finds in the environment."""
    environment = os.environ | {f"STREAM_MOE_KAFKA_{key}": value for key, value in (kafka or {}).items()}
    return subprocess.Popen(
        [*CLI, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str], timeout: float = 180) -> str:
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == 0, err + out
    return out


def run_arguments(settings: KafkaSettings, state: Path, *more: str) -> list[str]:
    return [
        "run", "--bootstrap", settings.bootstrap, "--topic", settings.topic, "--predictions", settings.predictions,
        "--dead-letters", settings.dead_letters, "--group", settings.group, "--state-dir", str(state),
        "--metrics-port", "0", *more,
    ]  # fmt: skip


class Members:
    """Daemons of one group with a state directory that all of them see; `close` kills those that are left.

    Parameters
    ----------
    settings
        Of the group.
    folder
        For state, logs and results; made where it is missing.
    options
        Of every member's `run`.
    cli
        What starts one.
    """

    def __init__(self, settings: KafkaSettings, folder: Path, *options: str, cli: list[str] = QUICK_CLI) -> None:
        self.settings, self.folder = settings, folder
        self._options, self._cli = options, cli
        self._all: list[subprocess.Popen[bytes]] = []
        folder.mkdir(exist_ok=True)

    def start(self, *more: str) -> subprocess.Popen[bytes]:
        number = len(self._all)
        result = ("--json", str(self.folder / f"{number}.json"))
        arguments = run_arguments(self.settings, self.folder / "state", *result, *self._options, *more)
        with (self.folder / f"{number}.log").open("w") as log:
            self._all.append(subprocess.Popen([*self._cli, *arguments], stdout=log, stderr=log))
        return self._all[-1]

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return (self.folder / f"{self._all.index(process)}.log").read_text()

    def joined(self, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
        """Wait until the group has given it partitions."""
        deadline = time.monotonic() + seconds
        while "partitions assigned" not in self.log(process):
            assert time.monotonic() < deadline, f"no partitions after {seconds:.0f} s\n{self.log(process)}"
            assert process.poll() is None, self.log(process)
            time.sleep(0.1)

    def result(self, process: subprocess.Popen[bytes], seconds: float = 90) -> dict[str, Any]:
        """Wait for the end of a member; what it reports of itself."""
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGUSR1)
            time.sleep(1)
            code = None
        assert code == 0, self.log(process)
        found: dict[str, Any] = json.loads((self.folder / f"{self._all.index(process)}.json").read_text())
        return found

    def close(self) -> None:
        for process in self._all:
            if process.poll() is None:
                process.kill()
                process.wait()


def digests_of(*results: dict[str, Any]) -> dict[int, str]:
    """Each partition's digest, from the results of the members that held it at the end."""
    return {part["partition"]: part["state_digest"] for result in results for part in result["partitions"]}
