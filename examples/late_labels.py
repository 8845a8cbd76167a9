"""Labels that come 1,000 events late, learnt without tickets and with them; `python -m examples.late_labels`.

docs/python.md has the loop event by event. Here the events and the labels that come between them go to `step` a block
at a time, which gives the same, faster.
"""

from __future__ import annotations

import sys

import numpy as np

from stream_moe import DriftMoE, Schema, open_stream, replay
from stream_moe.types import UNLABELLED, Float32, Int32

DELAY = 1000
ROWS = 2000


def accuracy(schema: Schema, x: Float32, y: Int32, *, with_tickets: bool) -> float:
    """Learn all events, each label after the event DELAY later was predicted; return the share predicted right."""
    model, n, right = DriftMoE(schema, seed=1), len(y), 0
    event = np.arange(n).repeat(2)  # each is predicted, then the label of the one DELAY before comes
    comes = np.tile([False, True], n)
    event[comes] -= DELAY
    comes, event = comes[event >= 0], event[event >= 0]
    tickets = event if with_tickets else np.full(len(event), -1)
    for start in range(0, len(event), ROWS):
        rows = slice(start, start + ROWS)
        labels = np.where(comes[rows], y[event[rows]], UNLABELLED).astype(np.int32)
        proba = model.step(x[event[rows]], labels, tickets=tickets[rows])
        predicted = ~comes[rows]
        right += int((proba.argmax(1) == y[event[rows]])[predicted].sum())
    return right / n


def main(events: int) -> None:
    """Print the accuracy of both, and that of the replay."""
    stream = open_stream("electricity")
    block = next(stream.blocks(events))
    for name, with_tickets in (("without tickets", False), ("with tickets", True)):
        print(f"{name:<16} {accuracy(stream.schema, block.x, block.y, with_tickets=with_tickets):.4%}")
    found = replay(stream, lambda schema: DriftMoE(schema, seed=1), events=events, label_delay=DELAY)
    print(f"{'replay':<16} {found.quality.accuracy:.4%}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 45_312)
