"""State digests of every model by name: what must not move when the code does.

    python -m tests.golden.digests --out FILE [--models A,B] [--chunks 4096,1]     write them down
    python -m tests.golden.digests --against FILE [--models A,B] [--chunks 4096]   and hold today's code to them

Four streams, 20,000 events, seeds 1 and 5, label delays 0 and 500. They are of one machine: another CPU or another
version of a library may round differently, so run both commits on the same one. All of it takes an hour on one core;
one model at one chunk size takes one to four minutes.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

from stream_moe import build_model, open_stream, replay
from stream_moe.models.catalogue import model_names

STREAMS, SEEDS, DELAYS, EVENTS = ("electricity", "led_a", "rbf_f", "sea_g"), (1, 5), (0, 500), 20_000
OPTIONS = {"driftmoe-two-stage": {"first_half": "10000"}}  # so that both stages have their events


def digests(models: list[str], chunks: list[int]) -> Iterator[tuple[str, str]]:
    """Yield each cell of the table: model, stream, seed, delay and chunk, and the digest."""
    for chunk, model, name, seed, delay in product(chunks, models, STREAMS, SEEDS, DELAYS):
        found = replay(
            open_stream(name, seed=seed),
            partial(build_model, model, seed=seed, options=OPTIONS.get(model)),
            events=EVENTS,
            chunk=chunk,
            label_delay=delay,
        )
        yield f"{model} {name} {seed} {delay} {chunk}", found.state_digest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--models", default=",".join(model_names()))
    parser.add_argument("--chunks", default="4096,1")
    given = parser.parse_args()
    expected = json.loads(given.against.read_text()) if given.against else {}
    table, moved = {}, 0
    for cell, digest in digests(given.models.split(","), [int(chunk) for chunk in given.chunks.split(",")]):
        table[cell] = digest
        other = cell in expected and expected[cell] != digest
        moved += other
        print(f"{cell:<50} {digest[:16]}{f' was {expected[cell][:16]}' if other else ''}", flush=True)
        if given.out:
            given.out.write_text(json.dumps(table, indent=0))
    print(
        f"{len(table)} digests"
        + (f", {sum(cell in expected for cell in table)} compared, {moved} moved" if expected else "")
    )
    raise SystemExit(moved > 0)


if __name__ == "__main__":
    main()
