"""Our generated streams beside MOA's, event by event; needs CapyMOA 0.15.1 (`pip install -e .[bench]`) and Java 17.

    python -m tests.parity.equality [NAME ...] [--events N] [--seed 1]

prints a row for each stream and exits with 1 if any differs: 200,000 events unless told otherwise, or as many as
reach beyond the last drift. MOA is asked through CapyMOA, one event at a time.
"""

from __future__ import annotations

import argparse
import os

import numpy as np

from stream_moe.streams import open_stream
from stream_moe.streams.specs import BENCHMARKS, DRIFTS_OF_MOA, parse
from tests.parity.dump_moa import take

NAMES = [
    *BENCHMARKS,
    *DRIFTS_OF_MOA,
    "sea_g:positions=50000,100000,150000:width=20000",
    "sea_g_moa:positions=50000,100000,150000:width=20000",
    "rbf:features=20:classes=3:centres=20:model=2",
    *(f"agrawal:function={function}" for function in range(1, 11)),
    "agrawal:function=1,5,9:positions=60000,120000:width=10000:perturbation=0",
    "hyperplane",
    "hyperplane:speed=0.001:drifting=5:features=8:noise=0",
    "tree",
    "tree:classes=4:nominal=3:numeric=7:values=3:depth=7:model=5",
    *(f"sine:function={function}" for function in range(1, 5)),
    "sine:function=1,2,3:irrelevant=0:positions=60000,120000",
    "mixed:function=1",
    "mixed:function=2",
    *(f"stagger:function={function}" for function in range(1, 4)),
]


def enough(name: str) -> int:
    """Return how many events show every drift."""
    drifts = parse(name).drifts
    return max(200_000, drifts.positions[-1] + drifts.widths[-1]) if drifts else 200_000


def row(name: str, events: int, seed: int) -> tuple[str, bool]:
    """Return a line of the table, and whether everything is equal."""
    x, y = take(name, events, seed)
    block = next(open_stream(name, seed=seed).blocks(events))
    same_x, same_y = (block.x == x).all(1), block.y == y
    different = np.flatnonzero(~(same_x & same_y))
    first = "none" if not len(different) else f"event {different[0]}"
    return f"{name:<75} {events:>9,} {same_x.sum():>9,} {same_y.sum():>9,}  {first}", not len(different)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--events", type=int, default=None)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(f"{'stream':<75} {'events':>9} {'equal x':>9} {'equal y':>9}  first difference")
    all_equal = True
    for name in options.names:
        line, equal = row(name, options.events or enough(name), options.seed)
        all_equal &= equal
        print(line, flush=True)
    return 0 if all_equal else 1


if __name__ == "__main__":
    code = main()
    os._exit(code)  # Java's worker threads would keep the process alive
