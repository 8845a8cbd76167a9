"""The table of accuracies of the default model, one configuration for all streams, beside its targets.

    python -m benchmarks.accuracy [--streams A,B] [--seeds 1,2,3] [--events N] [--delay D] [--jobs 2] [--out DIR]

Each run is a `stream-moe replay` of its own; finished ones are kept in DIR/runs and not made again, so a run that
was interrupted goes on. `--delay 1000` compares with the best expert under the same delay instead. Data sets are
looked for in STREAM_MOE_DATA.
"""

from __future__ import annotations

import argparse
import json
import statistics
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.bench import CLI, shell

# Best published figure of an ensemble (100 trees unless it says else), and what we want to reach.
TARGETS: dict[str, tuple[str, float]] = {
    "covtype": ("95.2 SRP", 96.6),
    "electricity": ("90.1 ARF", 92.3),
    "flights": ("68.6 ARF-10", 72.0),
    "rbf_f": ("86.3 ARF", 93.0),
    "rbf_m": ("92.0 ARF", 94.5),
    "rbf_f5": ("72.4 ARF", 86.0),
    "rbf_m5": ("86.0 ARF", 91.5),
    "led_a": ("73.9", 73.9),
    "led_g": ("73.2", 73.3),
    "sea_a": ("89.7 ARF", 89.7),
    "sea_g": ("89.3 ARF", 89.4),
    "weather": ("", float("nan")),
    "powersupply": ("", float("nan")),
}
SYNTHETIC = ("rbf", "led", "sea")


def replay(stream: str, seed: int, events: int, delay: int, folder: Path) -> dict[str, Any]:
    """The result of one replay, from the file of an earlier one if there is one."""
    path = folder / f"{stream}-{seed}-{events}-{delay}.json"
    if not path.exists():
        length = ["--events", str(events)] if stream.startswith(SYNTHETIC) else []
        partial = path.with_suffix(".part")
        arguments = ["replay", stream, "--seed", str(seed), "--label-delay", str(delay), *length]
        shell([*CLI, *arguments, "--quiet", "--device", "cpu", "--json", str(partial)])
        partial.rename(path)
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def line(stream: str, results: list[dict[str, Any]], delay: int) -> str:
    scores = [100 * r["accuracy"] for r in results]
    cell = f"{statistics.mean(scores):.2f} ({', '.join(f'{s:.2f}' for s in scores)})"
    best = [max(r["experts"], key=lambda expert: float(expert["accuracy"])) for r in results]
    alone = f"{statistics.mean(100 * e['accuracy'] for e in best):.2f} {best[0]['kind']}"
    last = f"{statistics.mean(r['log_loss'] for r in results):.4f} | {alone}"
    if delay:
        return f"| {stream} ({results[0]['events']:,}) | {cell} | {last} |"
    published, target = TARGETS[stream]
    return f"| {stream} ({results[0]['events']:,}) | {published} | {target:.1f} | {cell} | {last} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--streams", default=",".join(TARGETS))
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--events", type=int, default=1_000_000, help="of a generated stream")
    parser.add_argument("--delay", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    options = parser.parse_args()
    streams, seeds = options.streams.split(","), [int(seed) for seed in options.seeds.split(",")]
    if unknown := set(streams) - set(TARGETS):
        parser.error(f"--streams {sorted(unknown)[0]}: choose of {', '.join(TARGETS)}")
    runs = options.out / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    head = ["stream (events)", "driftmoe: mean (by seed)", "log-loss", "best expert"]
    head[1:1] = [] if options.delay else ["best ensemble", "target"]
    print(f"| {' | '.join(head)} |\n|{' --- |' * len(head)}")
    with ThreadPoolExecutor(options.jobs) as jobs:
        pending = {
            stream: [jobs.submit(replay, stream, seed, options.events, options.delay, runs) for seed in seeds]
            for stream in streams
        }
        for stream, runs_of in pending.items():
            print(line(stream, [run.result() for run in runs_of], options.delay), flush=True)


if __name__ == "__main__":
    main()
