"""The best that can be scored on SEA: the rule without noise, told each event's concept, on the same events.

python -m benchmarks.ideal [--seeds 1,2,3] [--events 1000000]
"""

from __future__ import annotations

import argparse

from stream_moe.streams import open_stream

ROWS = 10_000


def told(pace: str, seed: int, events: int) -> float:
    """Accuracy in %: noise turns labels and changes nothing else, so without it the labels are what the rule says."""
    blocks = open_stream(f"sea_{pace}", seed=seed).blocks(ROWS)
    rules = open_stream(f"sea_{pace}:noise=0", seed=seed).blocks(ROWS)
    right = sum(int((next(blocks).y == next(rules).y).sum()) for _ in range(events // ROWS))
    return 100 * right / (events // ROWS * ROWS)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    for pace in "ag":
        scores = [told(pace, int(seed), options.events) for seed in options.seeds.split(",")]
        print(f"sea_{pace}: {', '.join(f'{score:.2f}' for score in scores)}", flush=True)


if __name__ == "__main__":
    main()
