"""Run schedules and print what happened in them; exit code 1 when something did not hold."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.simulation import run
from tests.simulation.mutants import MUTANTS

parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
parser.add_argument("--schedules", type=int, default=2000)
parser.add_argument("--seed", type=int, default=0, help="of the first schedule; the next has the next number")
parser.add_argument("--mutant", choices=sorted(MUTANTS), help="give the engine this mistake")
options = parser.parse_args()

start = time.perf_counter()
seen: Counter[str] = Counter()
deaths: Counter[str] = Counter()
failed = 0
for seed, outcome in run(range(options.seed, options.seed + options.schedules), options.mutant):
    seen += outcome.seen
    deaths += outcome.deaths
    failed += bool(outcome.violations)
    for violation in outcome.violations:
        print(f"seed {seed}: {violation}", flush=True)
print("\ncrashes at")
for place, count in sorted(deaths.items()):
    print(f"  {place:36}{count:8,}")
print("what happened")
for what, count in sorted(seen.items()):
    print(f"  {what:36}{count:8,}")
print(
    f"{options.schedules:,} schedules, {deaths.total():,} crashes, {failed:,} schedules with violations,"
    f" {time.perf_counter() - start:.0f} s"
)
sys.exit(bool(failed))
