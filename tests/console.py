"""Runs the console snippets of a page and compares what they print with what the page shows of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

READY_SECONDS = 120.0  # for what a command in the background has to do before another one finds it


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Part a block into its commands (`$ ...`), each with the lines that are shown of its output."""
    parts = re.split(r"^\$ ", block, flags=re.M)[1:]
    return [(first, shown) for first, *shown in (part.rstrip("\n").split("\n") for part in parts)]


def run_console(block: str, folder: Path) -> None:
    """Run each command, which must succeed; the lines shown must come in its output, in their order.

    A command that is shown as `Killed` must end so. Numbers may differ, as time and machine do, but for those with a
    % behind them. A line `...` stands for any lines, and so does `...` within a line for any text. What ends in ` &`
    runs until the others are done.
    """
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[1]),  # pages say that their commands run in the repository
    }
    background: list[subprocess.Popen[bytes]] = []
    try:
        for command, shown in commands(block):
            if command.endswith(" &"):
                with (folder / "background.log").open("wb") as log:
                    line = f"exec {command.removesuffix(' &')}"
                    background.append(subprocess.Popen(["bash", "-c", line], cwd=folder, env=environment, stdout=log))
                continue
            expected = -9 if "Killed" in shown else 0
            lines = [line for line in shown if line != "Killed"]  # the shell's own, where it is interactive
            deadline = time.monotonic() + (READY_SECONDS if background else 0.0)
            while True:
                line = f"set -o pipefail; {command}"
                done = subprocess.run(
                    ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True, check=False
                )
                missing = _missing(lines, done.stdout)
                if (done.returncode == expected and missing is None) or time.monotonic() > deadline:
                    break
                time.sleep(0.2)
            assert done.returncode == expected, f"{command}\n{done.stdout}{done.stderr}"
            assert missing is None, f"{command}\nsays no longer: {missing}\nbut:\n{done.stdout}"
    finally:
        for process in background:
            process.kill()
            process.wait()


def _missing(shown: list[str], said: str) -> str | None:
    """Return the first shown line that does not come, after those before it."""
    lines = iter([_masked(line) for line in said.splitlines()])
    for line in shown:
        if line.strip() in {"", "..."}:
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in _masked(line).split("...")))
        if not any(pattern.fullmatch(found) for found in lines):
            return line
    return None


def _masked(line: str) -> str:
    return re.sub(r"-?\d[\d.,]*(?![\d.,]*%)", "0", " ".join(line.split()))
