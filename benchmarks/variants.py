"""Accuracy of the variants, one line a model: the table of docs/variants.md.

    python -m benchmarks.variants [--events 200000] [--seed 1] [--model NAME ...]

`--model` takes any model instead, such as capymoa:ARF10. The two-stage variants train experts on the first half of
each stream, as published.
"""

from __future__ import annotations

import argparse
from functools import partial

from stream_moe.engine.replay import replay
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream

STREAMS = ("led_g", "sea_g", "rbf_f", "electricity")
VARIANTS: dict[str, tuple[str, dict[str, str]]] = {
    "driftmoe-data": ("driftmoe-data", {}),
    "driftmoe-task": ("driftmoe-task", {}),
    "driftmoe-task, vote=true": ("driftmoe-task", {"vote": "true"}),
    "driftmoe-two-stage": ("driftmoe-two-stage", {}),
    "driftmoe-two-stage, clusters=gmm": ("driftmoe-two-stage", {"clusters": "gmm"}),
    "driftmoe-two-stage, variant=task": ("driftmoe-two-stage", {"variant": "task"}),
}


def accuracy(model: str, options: dict[str, str], stream: str, events: int, seed: int) -> float:
    """Percent right of the first events of a stream, each predicted before it was learnt."""
    source = open_stream(stream, seed=seed)
    events = min(events, source.n_events or events)
    if model == "driftmoe-two-stage":
        options = options | {"first_half": str(events // 2)}

    make = partial(build_model, model, seed=seed, options=options)
    return 100 * replay(source, make, events=events).quality.accuracy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--model", action="append", default=[])
    parser.add_argument("--stream", action="append", default=[])
    given = parser.parse_args()
    streams = given.stream or STREAMS
    rows = {name: (name, dict[str, str]()) for name in given.model} or VARIANTS
    print(f"| {given.events:,} events, seed {given.seed} | {' | '.join(streams)} |\n| --- |{' --- |' * len(streams)}")
    for name, (model, options) in rows.items():
        found = [accuracy(model, options, stream, given.events, given.seed) for stream in streams]
        print(f"| {name} | {' | '.join(f'{value:.2f}' for value in found)} |", flush=True)


if __name__ == "__main__":
    main()
