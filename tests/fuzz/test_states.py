"""A fiftieth of the cases of `python -m tests.fuzz --target state`, in code that checks each index."""

from __future__ import annotations

import subprocess
import sys


def test_no_state_leads_beyond_an_array() -> None:
    command = [sys.executable, "-m", "tests.fuzz", "--target", "state", "--events", "500", "--share", "0.02"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "indices checked" in done.stdout
