"""The engine under a simulated log, group and disk, in random schedules of crashes, lost answers and zombies.

`python -m tests.simulation --schedules 2000` runs that many and prints what happened in them and what did not hold;
`--mutant NAME` gives the engine a mistake, which must be found. What is run is the engine itself: loop, tasks,
label join and checkpoints; what is simulated is all that it stands on.

| | what must hold |
| --- | --- |
| O1 | predictions and dead letters are those of an uninterrupted run: each once, in order, the same bytes |
| O2 | so is the state: model, scores, waiting labels, counts |
| O3 | the committed offset never goes back |
| O4 | every label is applied, waits, or is counted as expired, duplicate, conflicting or orphan |
| O5 | a group that nothing disturbs any more finishes; a process ends only where it cannot go on, and says why |
| O6 | doubts and fences are counted as often as they came; a process that has recovered says so |
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Iterator

from tests.simulation.mutants import MUTANTS
from tests.simulation.schedule import Outcome, Schedule


def run(seeds: Iterable[int], mutant: str | None = None) -> Iterator[tuple[int, Outcome]]:
    """Run the schedule of each seed, with the engine as it is or with a mistake."""
    disabled = logging.root.manager.disable
    for seed in seeds:
        logging.disable(logging.CRITICAL)  # the engine says a lot about each of its deaths
        try:
            schedule = Schedule(seed)
            with MUTANTS[mutant]() if mutant else contextlib.nullcontext():
                outcome = schedule.run()
        finally:
            logging.disable(disabled)
        yield seed, outcome
