"""DriftMoERegressor: experts on a number of different kinds under gates that learn from every event.

For each event:

1. *Row*: features, their changes, and the target's past, in frozen scales (`stream_moe.experts.numbers.rows`).
2. *Base*: one linear model predicts and learns first; some experts learn what it leaves.
3. *Experts*: each predicts the event and then learns it.
4. *Gates*: two levels mix their laws; the answer is the median, the interval follows how often targets fell outside.
5. *Watch*: ADWIN looks at the answer's standardised error.

A target that comes late meets what was said when the event was read: its row, every expert's answer and the gates'.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.errors import ConfigError
from stream_moe.experts.numbers.base import NumberExpert
from stream_moe.experts.numbers.linear import LinearExpert
from stream_moe.experts.numbers.neighbours import NeighboursExpert
from stream_moe.experts.numbers.network import NetworkExpert
from stream_moe.experts.numbers.repeating import Repeating
from stream_moe.experts.numbers.tree import TreeExpert
from stream_moe.models.parts import Part
from stream_moe.models.regression.contract import BlockRegressor
from stream_moe.models.regression.report import NumberExpertReport, NumberLearnerReport
from stream_moe.models.regression.rows import RowHistory
from stream_moe.report import LearnerDrift
from stream_moe.router.numbers.gates import ANSWERS
from stream_moe.router.numbers.mixture import NumberGates, WaitingRows
from stream_moe.types import Float32, Float64, Int64, Schema

TILE = 2048  # rows at a time: bounds the memory of the predictions; changes no result
UNUSUAL = 4.0  # scales of the answer from which on an error is as bad as any, for the detector
_log = logging.getLogger(__name__)


def number_experts(k: int, seed: int) -> list[NumberExpert]:
    """Return the experts of the default model over rows with k features; the first is the base."""
    return [
        LinearExpert(k, memory=0.999),
        Repeating(k, what="last-value"),
        Repeating(k, what="season"),
        Repeating(k, what="second-season"),
        LinearExpert(k, memory=0.9998),
        LinearExpert(k, memory=0.998),
        LinearExpert(k, memory=0.99, robust=1.0),
        LinearExpert(k, form="past", memory=0.999),
        LinearExpert(k, form="past", memory=0.99, robust=1.0),
        LinearExpert(k, form="features", memory=0.999),
        LinearExpert(k, form="products", memory=0.9995),
        NetworkExpert(k, target="level", seed=seed),
        NetworkExpert(k, target="change", seed=seed),
        NeighboursExpert(k, target="level", neighbours=5),
        NeighboursExpert(k, target="rest", neighbours=10),
        TreeExpert(k, form="features", seed=seed),
        TreeExpert(k, form="history", seed=seed),
    ]


class DriftMoERegressor(BlockRegressor):
    """Linear models, trees, networks, neighbours and the target's past under two levels of gates.

    Parameters
    ----------
    schema
        Features and target; None = learn the features from the dicts given to `learn_one`.
    interval
        Share of the targets that the interval is to hold.
    without
        Kinds of experts to leave out, separated by commas, as "network-level,tree-history"; never the base.
    seed
        Of everything random.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> evaluate.progressive_val_score(datasets.TrumpApproval(), DriftMoERegressor(seed=1), metrics.MAE())
    MAE: 0.183743
    """

    def __init__(
        self, schema: Schema | None = None, *, interval: float = 0.9, without: str = "", seed: int = 1
    ) -> None:
        if not 0.0 < interval < 1.0:
            raise ConfigError(f"driftmoe-regressor: interval {interval} must lie between 0 and 1, as 0.9")
        self.interval, self.without, self.seed = interval, without, seed
        self._kinds_left_out()
        super().__init__(schema)

    _not_learnt = ("waiting",)

    @property
    def newest_ticket(self) -> int:  # type: ignore[override]
        """The latest ticket under which something is kept."""
        return self._waiting.newest

    def _kinds_left_out(self) -> set[str]:
        """Kinds to leave out; ConfigError for one that is none, or the base."""
        names = {name.strip() for name in self.without.split(",") if name.strip()}
        kinds = [expert.kind for expert in number_experts(1, 1)]
        if wrong := sorted(names - set(kinds[1:])):
            known = ", ".join(dict.fromkeys(kinds[1:]))
            raise ConfigError(f"driftmoe-regressor: without {wrong[0]!r}: no such kind; choose of {known}")
        return names

    def _start(self, schema: Schema) -> None:
        self._history = RowHistory(schema)
        k, left_out = self._history.k, self._kinds_left_out()
        base, *others = number_experts(k, self.seed)
        self._experts = [base, *(each for each in others if each.kind not in left_out)]
        self._gates = NumberGates(len(self._experts), k, self.interval)
        self._waiting = WaitingRows(self._history.width, self._gates.width)
        self._monitor = DriftMonitor(1)

    def _grow(self, schema: Schema) -> None:
        if schema.n_features == len(self._history.past.mean):
            self._history.grow(schema)
            return
        _log.warning("features that were not there before: the model of the number begins anew")
        self._start(schema)

    def _step(self, x: Float32, y: Float64, tickets: Int64, w: Float64) -> Float64:
        answers = np.empty((len(x), ANSWERS))
        for start in range(0, len(x), TILE):
            part = slice(start, start + TILE)
            answers[part] = self._run(x[part], y[part], tickets[part], w[part])
        return answers

    def _run(self, x: Float32, y: Float64, tickets: Int64, w: Float64) -> Float64:
        self.phases.begin()
        # 1. Rows; of those whose target comes late what was said of them.
        rows, said = np.empty((len(x), self._history.width)), np.empty((len(x), self._gates.width))
        source = self._waiting.match(tickets, ~np.isnan(y), rows, said)
        view = self._history.follow(x, y, source, rows, w)
        self.phases.end("rows")
        # 2., 3. The base, then the experts.
        predicted = np.empty((len(self._experts), len(x)))
        for expert, out in zip(self._experts, predicted, strict=True):
            expert.step(view, out)
            if expert is self._experts[0]:
                view.guess[:] = out
        mine = source < 0
        said[mine, : len(predicted)] = predicted[:, mine].T
        self.phases.end("experts")
        # 4. Gates.
        answers = self._gates.step(view.epochs, view.table, view.now, source, view.y, said)
        self._waiting.put(tickets, rows, said)
        # 5. Watch.
        learnt = np.flatnonzero(~np.isnan(view.y))
        errors = np.abs(view.y[learnt] - answers[learnt, 0]) / (UNUSUAL * np.maximum(answers[learnt, 3], 1e-300))
        self._monitor.update(np.minimum(errors, 1.0).astype(np.float32)[:, None])
        self.phases.end("gates")
        return answers

    def _predict(self, x: Float32) -> Float64:
        view = self._history.foresee(x)
        said = np.empty((len(x), self._gates.width))
        out = np.empty(len(x))
        for e, expert in enumerate(self._experts):
            expert.step(view, out)
            if e == 0:
                view.guess[:] = out
            said[:, e] = out
        return self._gates.foresee(self._history.unit, said)

    def _parts(self) -> Mapping[str, Part]:
        experts = {f"expert-{e}": expert for e, expert in enumerate(self._experts)}
        return {
            "rows": self._history, **experts, "gates": self._gates, "waiting": self._waiting, "monitor": self._monitor
        }  # fmt: skip

    def take_drifts(self) -> list[LearnerDrift]:
        """As `BlockRegressor.take_drifts`."""
        return [
            LearnerDrift("mixture", "adwin", "mixture", each.event, float(each.rise))
            for each in self._monitor.take_found()
        ]

    def report(self) -> NumberLearnerReport:
        """Return what the experts are worth."""
        self._require_schema()
        n, gates = max(self._gates.labels, 1), self._gates.state
        experts = [
            NumberExpertReport(e.kind, float(share), float(error), e.nodes, e.drifts, e.memory_bytes)
            for e, share, error in zip(self._experts, gates.credit / n, gates.error / n, strict=True)
        ]
        return NumberLearnerReport(
            experts, self._gates.labels, self._history.suspects, self._history.epoch, self._history.period,
            int(self._monitor.drifts[0]), int(self._monitor.last_drift[0]),
            sum(each.memory_bytes for each in experts),
        )  # fmt: skip
