"""What stands for clocks, random names and measured sizes, so that a seed decides them."""

from __future__ import annotations

import random

from tests.simulation.inputs import MODEL_BYTES


class Hurry:
    """A clock for the models of a checkpoint: between two looks at it there is no time, or more than there was."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._now = chance, 0.0

    def perf_counter(self) -> float:
        self._now += self._chance.choice([0.0, 0.0, 1.0])
        return self._now


class Names:
    """What writers of segments call themselves: the same in every run."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def token_hex(self, size: int) -> str:
        return self._chance.randbytes(size).hex()


class Sizes:
    """What is measured of a model's memory: the same in every run."""

    def __init__(self) -> None:
        self._taken = 0

    def is_tracing(self) -> bool:
        return True

    def get_traced_memory(self) -> tuple[int, int]:
        self._taken += MODEL_BYTES
        return self._taken, self._taken
