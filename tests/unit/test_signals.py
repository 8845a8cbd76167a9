"""SIGTERM before a daemon has begun to work."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# The signal comes where the first of the heavy imports would be.
PROGRAM = """
import os, signal, sys
from stream_moe import cli
sys.modules["stream_moe.cli.run"].start_logs = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
options = {"bootstrap": "127.0.0.1:1", "group": "g", "topic": "t", "state-dir": sys.argv[1]}
sys.argv = ["stream-moe", "run", *(word for name, value in options.items() for word in ("--" + name, value))]
cli.main()
"""


def test_sigterm_during_the_start_is_a_clean_end(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "stream-moe: SIGTERM at the start: nothing was read yet, ended\n"
