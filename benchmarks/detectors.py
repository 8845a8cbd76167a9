"""What the detector of feature drift says: of stationary streams nothing, of planted changes soon, of real data what.

`python -m benchmarks.detectors` prints the figures of docs/metrics.md. No label is used. `... --adwin` compares the
speed of ADWIN, which watches the errors, with river's.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from statistics import median

import numpy as np

from stream_moe.drift.distribution import DistributionMonitor, Shift
from stream_moe.streams import open_stream
from stream_moe.types import Float32

ROWS = 4096
STATIONARY = ("led", "rbf", "sea", "agrawal")
EVENTS, SEEDS = 1_000_000, (1, 2, 3)
PLANTED, TRIALS = ("x 10", "constant", "missing"), 10
WIDTHS = (3, 8, 24, 54)


def shifts_of(name: str, seed: int, events: int | None) -> tuple[list[Shift], int]:
    """Return what the detector finds in a stream's features, and how many events there were."""
    stream = open_stream(name, seed=seed)
    monitor, found, seen = DistributionMonitor(stream.schema.n_categories), list[Shift](), 0
    for block in stream.blocks(ROWS):
        x = block.x if events is None else block.x[: events - seen]
        found += monitor.update(x)
        seen += len(x)
        if seen == events:
            break
    return found, seen


def detect(x: Float32) -> list[Shift]:
    """Return what is found in numeric features."""
    monitor, found = DistributionMonitor(np.zeros(x.shape[1], np.int32)), list[Shift]()
    for begin in range(0, len(x), ROWS):
        found += monitor.update(x[begin : begin + ROWS])
    return found


def planted(what: str, width: int, rng: np.random.Generator) -> int | None:
    """Change one of normal features for good; return after how many events it was told, None if wrongly."""
    at, column = int(rng.integers(60_000, 90_000)), int(rng.integers(width))
    x = rng.normal(size=(150_000, width)).astype(np.float32)
    if what == "x 10":
        x[at:, column] *= 10
    else:
        x[at:, column] = x[0, column] if what == "constant" else np.nan
    found = detect(x)
    return found[0].event - at if found and found[0].columns == [column] else None


def feature_drift() -> None:
    print("| stationary, 1,000,000 events | alarms (seeds 1, 2, 3) |\n| --- | --- |")
    for name in STATIONARY:
        print(f"| {name} | {', '.join(str(len(shifts_of(name, seed, EVENTS)[0])) for seed in SEEDS)} |", flush=True)
    print("\n| planted in one of d features | " + " | ".join(f"d = {width}" for width in WIDTHS) + " |")
    print("| --- |" + " --- |" * len(WIDTHS))
    rng = np.random.default_rng(0)
    for what in PLANTED:
        cells = []
        for width in WIDTHS:
            told = [planted(what, width, rng) for _ in range(TRIALS)]
            right = [delay for delay in told if delay is not None]
            cells.append(f"{median(right):,.0f} events ({len(right)} of {TRIALS})")
        print(f"| {what} | " + " | ".join(cells) + " |", flush=True)
    x = rng.normal(size=(200_000, 8)).astype(np.float32)
    x[100_000:, 0] += np.linspace(0, 2, 100_000, dtype=np.float32)
    found = detect(x)
    first = found[0].event - 100_000 if found else None
    print(f"\na ramp of 2 sigma over 100,000 events: {len(found)} alarms, the first after {first} events")
    for name in ("electricity", *(("covtype",) if "STREAM_MOE_DATA" in os.environ else ())):
        stream, (found, seen) = open_stream(name), shifts_of(name, 1, None)
        often = Counter(stream.schema.features[j].name for shift in found for j in shift.columns).most_common(3)
        print(f"{name}: {len(found)} alarms in {seen:,} events; most often {often}")


def adwin(events: int = 200_000, streams: int = 12) -> None:
    """CPU nanoseconds per error, ours and river's, over the same errors of so many experts."""
    from river.drift import ADWIN

    from stream_moe.drift.adwin import DriftMonitor

    errors = (np.random.default_rng(1).random((events, streams)) < 0.2).astype(np.float32)
    monitor = DriftMonitor(streams)
    monitor.update(errors[:ROWS])  # compiles
    begun = time.process_time()
    for start in range(0, events, ROWS):
        monitor.update(errors[start : start + ROWS])
    ours = (time.process_time() - begun) / errors.size
    detector, begun = ADWIN(), time.process_time()
    for error in errors[:, 0].tolist():
        detector.update(error)
    theirs = (time.process_time() - begun) / events
    print(f"ADWIN, CPU ns per error: ours {1e9 * ours:.0f}, river's {1e9 * theirs:.0f} ({theirs / ours:.0f} x)")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.detectors", description=__doc__)
    parser.add_argument("--adwin", action="store_true")
    if parser.parse_args().adwin:
        adwin()
    else:
        feature_drift()


if __name__ == "__main__":
    main()
