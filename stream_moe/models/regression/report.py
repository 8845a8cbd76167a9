"""What a model of a number reports of itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class NumberExpertReport:
    """One expert on a number since the start."""

    kind: str
    share: float  # 0-1, of the answers
    mae: float  # in the target's units
    nodes: int
    drifts: int
    memory_bytes: int


@dataclass(slots=True)
class NumberLearnerReport:
    """A model of a number."""

    experts: list[NumberExpertReport]
    labels: int  # learnt
    suspects: int  # targets that were scored and, far from all before them, not learnt
    epochs: int  # times that the scales of the rows were frozen anew
    period: int  # events between targets that are most alike, 0 = none found
    mixture_drifts: int = 0
    last_mixture_drift: int = -1
    model_bytes: int = 0
