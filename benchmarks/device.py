"""driftmoe-data with its router on the CPU and on CUDA: speed and accuracy of the same events.

    python -m benchmarks.device [--repeats 3] [--out DIR]

Needs a CUDA device. Writes DIR/device.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch

from benchmarks.bench import replay, show, versus

STREAMS, EVENTS = ("led_a", "rbf_f", "sea_a"), 300_000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench"))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("torch finds no CUDA device here")
    print("| what | target | cuda: median (min - max) | cpu | ratio or gap |\n| --- | --- | --- | --- | --- |")
    rows = []
    for stream in STREAMS:
        scores: dict[str, list[float]] = {"cuda": [], "cpu": []}

        def speed(device: str, stream: str = stream, scores: dict[str, list[float]] = scores) -> float:
            result = replay(stream, "driftmoe-data", EVENTS, 1, "--device", device, "--threads", "2")
            scores[device].append(100 * result["accuracy"])
            return float(result["events_per_second"])

        row = versus(
            f"driftmoe-data, {stream}, events/s", "", lambda: speed("cuda"), lambda: speed("cpu"), options.repeats
        )
        gap = statistics.mean(scores["cuda"]) - statistics.mean(scores["cpu"])
        show(row)
        print(f"| accuracy, {stream}, {EVENTS:,} events | within 0.5 | | | {gap:+.2f} |", flush=True)
        rows.append(row | {"accuracy_gap": gap})
    options.out.mkdir(parents=True, exist_ok=True)
    found = {"device": torch.cuda.get_device_name(), "rows": rows}
    (options.out / "device.json").write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
