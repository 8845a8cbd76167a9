"""Events per second of each generated stream on one core, in blocks of 4,096.

python -m benchmarks.stream_speed [--events 1000000] [STREAM ...]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time

from stream_moe.streams import GENERATED, open_stream

ROWS = 4096
RUNS = 3
NAMES = [*GENERATED, "led_g_moa", "rbf:speed=0.001:centres=50:classes=5", "sea:function=1,4:every=50000:width=10000"]


def rate(name: str, events: int) -> float:
    """Events per second of one run from the stream's start."""
    blocks = open_stream(name).blocks(ROWS)
    started = time.perf_counter()
    for _ in itertools.islice(blocks, events // ROWS):
        pass
    return events // ROWS * ROWS / (time.perf_counter() - started)


def main() -> None:
    """Print a row for each stream: the median of three runs, and the slowest."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    print(f"{'stream':<45} {'events/s':>12} {'slowest run':>12}")
    for name in options.names:
        next(open_stream(name).blocks(ROWS))  # compiled on the way
        rates = [rate(name, options.events) for _ in range(RUNS)]
        print(f"{name:<45} {statistics.median(rates):>12,.0f} {min(rates):>12,.0f}", flush=True)


if __name__ == "__main__":
    main()
