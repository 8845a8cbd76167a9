"""Produce every fault of the table and print it: fault, expected, seen.

    python -m tests.faults [--group GROUP] [--only TEXT] [--quick] [--jobs 3]

Needs Java 17 and Maven for the broker. Exit code 1 where a row was not as expected.
"""

from __future__ import annotations

import argparse
import traceback

from tests.faults import rows
from tests.faults.rig import FaultyBroker
from tests.faults.table import GROUPS, ROWS, run_all

__all__ = ["rows"]  # which fill the table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--group", choices=GROUPS)
    parser.add_argument("--only", default="", help="rows whose fault has this text")
    parser.add_argument("--quick", action="store_true", help="leave out what waits for time-outs")
    parser.add_argument("--jobs", type=int, default=3, help="rows at a time")
    options = parser.parse_args()
    chosen = [
        one
        for one in sorted(ROWS, key=lambda one: GROUPS.index(one.group))
        if options.group in (None, one.group) and options.only in one.fault and not (options.quick and one.slow)
    ]
    broker = FaultyBroker()
    failures: list[str] = []
    shown = 0
    print("| group | fault | expected | seen | s |\n| --- | --- | --- | --- | --- |", flush=True)
    try:
        broker.start()
        for one, future in run_all(chosen, broker, options.jobs):
            error = future.exception()
            if error is None:
                seen, seconds = future.result()
                shown += 1
            else:
                failures.append(f"{one.name}\n{''.join(traceback.format_exception(error))}")
                seen, seconds = f"NOT AS EXPECTED: {' '.join(str(error).split())[:200]}", 0.0
            print(f"| {one.group} | {one.fault} | {one.expected} | {seen} | {seconds:.0f} |", flush=True)
    finally:
        broker.stop()
    reasons = [one for one in chosen if one.run is None]
    for one in reasons:
        print(f"| {one.group} | {one.fault} | - | not produced: {one.expected} | |")
    print(f"\n{shown} as expected, {len(failures)} not, {len(reasons)} not produced (reason given)")
    for failure in failures:
        print(f"\n{failure}")
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
