"""What the live view costs: `python -m benchmarks.live_view` replays in a terminal with it and without, in turn.

CPU time is that of the whole process, all threads, from the first event to the last (`cpu_seconds` of the result);
seconds are of the wall clock. Each pair is one replay with the live view and one with rows, the order alternating.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path

from stream_moe.cli.live import REFRESH_SECONDS
from tests.terminal import Terminal

CLI = [sys.executable, "-m", "stream_moe"]


def timed(stream: str, model: str, events: int, live: bool) -> tuple[float, float]:
    """Replay once; return CPU seconds and seconds."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        arguments = ["replay", stream, "--model", model, "--events", str(events), "--json", str(out)]
        with Terminal([*CLI, *arguments], TERM="xterm-256color" if live else "dumb") as terminal:
            if code := terminal.wait():
                raise SystemExit(f"exit code {code}: {terminal.lines}")
            if (b"elapsed" in terminal.raw) != live:
                raise SystemExit("the terminal showed the other thing")
        result = json.loads(out.read_text())
        return result["cpu_seconds"], result["seconds"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stream", default="led_g")
    parser.add_argument("--models", default="driftmoe,hoeffding-tree")
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--pairs", type=int, default=7)
    arguments = parser.parse_args()
    print(
        f"{'model':<16}{'CPU s, rows':>12}{'live':>8}{'more':>8}{'of pairs':>20}"
        f"{'wall s, rows':>14}{'live':>8}{'ms a frame':>12}"
    )
    for model in arguments.models.split(","):
        pairs = []
        for n in range(arguments.pairs):
            found = {
                live: timed(arguments.stream, model, arguments.events, live) for live in (n % 2 == 0, n % 2 == 1)
            }
            pairs.append((found[False], found[True]))
        ratios = sorted(live[0] / rows[0] - 1 for rows, live in pairs)
        cpu = [statistics.median(each[i][0] for each in pairs) for i in (0, 1)]
        wall = [statistics.median(each[i][1] for each in pairs) for i in (0, 1)]
        frame = statistics.median((live[0] - rows[0]) * REFRESH_SECONDS / live[1] for rows, live in pairs)
        print(
            f"{model:<16}{cpu[0]:>12.2f}{cpu[1]:>8.2f}{statistics.median(ratios):>+8.1%}"
            f"{ratios[0]:>+11.1%} to {ratios[-1]:+.1%}{wall[0]:>12.2f}{wall[1]:>8.2f}{1000 * frame:>12.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
