"""What CPU buys: accuracy, speed and CPU-seconds of the default model at several budgets.

    python -m tests.bench.budget [STREAM ...] [--events N] [--seed S] [--budgets B ...]

prints one Markdown table: accuracy in % (test then train), events per second on one core, CPU-seconds per million
events, and how many experts there are and how many of them slept, on the mean. "all awake" is budget 1 with
nobody allowed to sleep. Without streams: electricity, flights, powersupply (their files in $STREAM_MOE_DATA),
rbf_f, led_g and sea_a.
"""

from __future__ import annotations

import argparse
import time
from typing import NamedTuple

from stream_moe.models.driftmoe import DriftMoE
from stream_moe.types import Float32, Int32, Schema
from tests.bench.ablation import ROWS, read

STREAMS = ["electricity", "flights", "powersupply", "rbf_f", "led_g", "sea_a"]
BUDGETS = [0.25, 0.5, 1.0, 2.0]


class Cost(NamedTuple):
    accuracy: float  # %
    speed: float  # events a second
    cpu: float  # seconds per million events
    experts: int
    asleep: float  # mean


def measure(x: Float32, y: Int32, schema: Schema, seed: int, budget: float | None) -> Cost:
    """Score and time one pass; budget None = 1 with everyone awake."""

    def build() -> DriftMoE:
        model = DriftMoE(schema, seed=seed, budget=budget or 1.0)
        if budget is None:
            model.sleep.may_sleep[:] = False
        return model

    build().step(x[:1024], y[:1024])  # compiled from here on
    model = build()
    right = asleep = 0
    begin, cpu_begin = time.perf_counter(), time.process_time()
    for s in range(0, len(y), ROWS):
        labels = y[s : s + ROWS]
        right += int((model.step(x[s : s + ROWS], labels).argmax(1) == labels).sum())
        asleep += int(model.sleep.asleep.sum()) * len(labels)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu_begin
    n = len(y)
    return Cost(100 * right / n, n / seconds, 1e6 * cpu / n, model.n_experts, asleep / n)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("streams", nargs="*", default=STREAMS)
    parser.add_argument("--events", type=int, default=45_312)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS)
    given = parser.parse_args()
    print("| stream | budget | accuracy | events/s | CPU-seconds per million | experts asleep |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in given.streams:
        data = read(name, given.events, given.seed)
        for budget in (None, *given.budgets):
            cost = measure(*data, given.seed, budget)
            print(
                f"| {name} | {'1, all awake' if budget is None else f'{budget:g}'} | {cost.accuracy:.2f} | "
                f"{cost.speed:,.0f} | {cost.cpu:.1f} | {cost.asleep:.1f} of {cost.experts} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
