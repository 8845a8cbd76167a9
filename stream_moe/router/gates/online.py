"""The online gates as an object: owns the arrays that `stream_moe.router.gates.loop` works on."""

from __future__ import annotations

import numpy as np

from stream_moe.errors import CheckpointError
from stream_moe.ranges import AMOUNT, ANY, COUNT, MOST, SHARE, Range, expect, named
from stream_moe.router.gates import kernel, late, loop
from stream_moe.router.gates.waiting import Waiting
from stream_moe.snapshot import Snapshot, fill
from stream_moe.types import Bool, Float32, Float64, Int32, Int64

LATE = "late_"  # before the names of the late gates' arrays in a snapshot


class OnlineGates:
    """Three levels of gates over E experts; their state does not depend on the number of classes.

    Parameters
    ----------
    member
        bool [E], which experts form the committee.
    n_classes
        C.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(1)
    >>> y = rng.integers(0, 2, 500).astype(np.int32)
    >>> good, bad = np.where(rng.random((2, 500)) < [[0.9], [0.5]], y, 1 - y)
    >>> opinions = 0.1 + 0.8 * np.eye(2)[np.stack([good, bad])]
    >>> gates = OnlineGates(np.array([False, False]), 2)
    >>> answers, shares, _, _ = gates.step(opinions, y, np.full(500, -1), Waiting(gates.n_parts, 2))
    >>> bool((answers.argmax(1) == y)[100:].mean() > 0.85), bool(shares[-1, 0] > 0.8)
    (True, True)
    """

    def __init__(self, member: Bool, n_classes: int) -> None:
        self._arrays = kernel.new_gates(member)
        self._largest = 1.0  # weight of a label
        self._late = late.new_late(self._arrays)
        self.grow(n_classes)

    @property
    def loss(self) -> float:
        """Log-loss of the answers, exponentially weighted over about the last 1,000 labels; NaN before any."""
        return float(self._arrays.loss[0])

    @property
    def learnt(self) -> int:
        """Labels learnt."""
        return int(self._arrays.learnt[0])

    @property
    def late(self) -> bool:
        """Whether most labels come late, so that the gates for late labels answer."""
        return bool(self._late.share[0] > late.ENOUGH)

    @property
    def n_parts(self) -> int:
        """How many answers `Waiting` must keep of each event."""
        return len(self._late.power) + 2  # the late gates' parts, how they vote, and the answer

    def step(
        self, opinions: Float64, y: Int32, tickets: Int64, waiting: Waiting, weight: Float64 | None = None
    ) -> tuple[Float64, Float32, Float32, Int32]:
        """Answer, then learn, event by event.

        Parameters
        ----------
        opinions
            float64 [E, n, C], what the experts say before they learn each event; NaN = abstains.
        y
            int32 [n], -1 = not known yet.
        tickets
            int64 [n] as `BlockClassifier.step` has them: by its ticket an event is known again when its label comes.
        waiting
            The events that wait for their labels; takes in new ones.
        weight
            float64 [n], how much the labels count, above 0; None = all the same. The largest so far counts as one
            label, the others as their share of it.

        Returns
        -------
        answers
            float64 [n, C].
        shares
            float32 [n, E], each expert's share of the answer.
        right
            float32 [n, E], 1 where the expert named y when the event was predicted, NaN where it abstained, else 0.
        scored
            int32 [n], the class that was answered when the event was predicted.
        """
        n, e = len(y), len(opinions)
        counts = np.ones(n) if weight is None else self._shares_of_largest(y, weight)
        answers, shares = np.empty((n, opinions.shape[2])), np.empty((n, e))
        right, scored = np.empty((n, e), np.float32), np.empty(n, np.int32)
        loop.run(
            self._arrays, self._late, waiting.ring, opinions, y, counts, tickets, answers, shares, right, scored,
            self._row, self._late_row, self._spare,
        )  # fmt: skip
        return answers, shares.astype(np.float32), right, scored

    def _shares_of_largest(self, y: Int32, weight: Float64) -> Float64:
        """Return weights of labels, float64 [n], as shares of the largest that came before or with each."""
        largest = np.maximum.accumulate(np.append(self._largest, np.where(y >= 0, weight, 0.0)))
        self._largest = float(largest[-1])
        return np.where(y >= 0, weight / largest[1:], 1.0)

    def answer(self, opinions: Float64) -> Float64:
        """Answers float64 [n, C] to opinions [E, n, C]; changes nothing."""
        answers = np.empty(opinions.shape[1:])
        loop.answer_all(self._arrays, self._late, opinions, answers, self._row, self._late_row, self._spare)
        return answers

    def grow(self, n_classes: int) -> None:
        e = len(self._arrays.member)
        self._row, self._spare = kernel.new_row(e, n_classes), np.empty(e)
        self._late_row = late.new_late_row(e, n_classes)

    def snapshot(self) -> Snapshot:
        """Return what has been learnt; of labels that come late there is nothing before the first one."""
        arrays = {name: array.copy() for name, array in self._arrays._asdict().items()}
        if self._late.share[0] > 0.0:
            arrays |= {LATE + name: array.copy() for name, array in self._late._asdict().items()}
        if self._largest != 1.0:
            arrays["largest"] = np.array([self._largest])
        return arrays, {}

    def restore(self, snapshot: Snapshot) -> None:
        found = snapshot[0]
        ours = self._arrays._asdict() | {LATE + name: array for name, array in self._late._asdict().items()}
        if LATE + "share" not in found:  # no label has come late
            fresh = late.new_late(kernel.new_gates(self._arrays.member))._asdict()
            found = found | {LATE + name: array for name, array in fresh.items()}
        for name, mine in ours.items():
            other = found[name]
            if other.shape != mine.shape or (name == "member" and not np.array_equal(other, mine)):
                raise CheckpointError(
                    f"gates: array {name!r} of shape {other.shape} is of other experts, here it is {mine.shape}; "
                    "set trees and budget to what they were"
                )
        weight = Range(0.0, nan=True)  # and a pool whose predictions ran off may spoil it
        ranges = named(
            kernel.GateArrays, geometric=ANY, square=weight, share=weight, accuracy=SHARE, second=ANY,
            second_square=weight, last=weight, loss=ANY, learnt=COUNT, member=SHARE,
        )  # fmt: skip
        of_late = named(
            late.LateArrays, geometric=ANY, square=weight, power=Range(late.LOWEST, late.HIGHEST),
            curvature=Range(1.0), errors=AMOUNT, scale=Range(1.0, MOST), gap=AMOUNT, share=SHARE,
        )  # fmt: skip
        fill(ours, found, "gates", ranges | {LATE + name: range_ for name, range_ in of_late.items()})
        self._largest = 1.0
        if "largest" in found:
            allowed = Range(1.0, MOST)
            self._largest = float(expect("gates", found, "largest", np.dtype(np.float64), (1,), allowed)[0])
