"""DriftMoE: experts of different kinds under gates that learn from every event. The default model.

The algorithm, for each event; `_run` and `_settle` have its steps under the same numbers:

1. *Sleep*: an expert that carries no weight is active on one event in 8 only.
2. *Experts*: every active expert predicts the event and then learns it.
3. *Gates*: three levels mix the predictions into the answer, and learn from the label. Where the label comes late,
   they learn from the predictions that were made at the time.
4. *Account*: routing and accuracy of each expert are counted, and a monitor looks for drifts of their errors.
5. *Sleep*: after every 1,024 labels some experts fall asleep or wake; a drift of the mixture wakes all.

What makes it follow a drift: trees that replace themselves, experts with short memories, and gates whose weights
move within some ten events. `docs/model.md` has the equations and what each part is worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np

from stream_moe.drift.adwin import DriftMonitor
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.base import Expert
from stream_moe.experts.columns_pool import ColumnsPool, columns_schema
from stream_moe.experts.executors import Executor, Pool, check_executor, open_pool
from stream_moe.experts.kinds import FORMER, current_kind
from stream_moe.experts.linear.averaged import AveragedSoftmax
from stream_moe.experts.linear.history import HistorySoftmax
from stream_moe.experts.linear.softmax import SoftmaxRegression
from stream_moe.experts.linear.target_encoding import TargetEncoding
from stream_moe.experts.naive_bayes import NaiveBayes
from stream_moe.experts.neighbours.knn import WindowKNN
from stream_moe.experts.neighbours.prototypes import MovingPrototypes
from stream_moe.experts.no_change import NoChange
from stream_moe.experts.trees.adaptive import AdaptiveTree
from stream_moe.experts.wide import MOST_FEATURES, PLACES, WideColumns
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.parts import Part
from stream_moe.models.specialization import DriftsFound, Specialization, labelled_errors, learner_report
from stream_moe.models.weights import checked_weights
from stream_moe.ranges import Range, check
from stream_moe.report import LearnerDrift, LearnerReport
from stream_moe.router.gates.online import OnlineGates
from stream_moe.router.gates.sleep import LEAST_SHARE, SleepSchedule
from stream_moe.router.gates.waiting import Waiting
from stream_moe.runtime.phases import Phases
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.snapshot import Snapshot
from stream_moe.types import Bool, Float32, Float64, Int32, Int64, Schema

PART = 256  # rows of a run that gates and experts take in turn; changes no result
TILE = 2048  # rows at a time: bounds the memory of the predictions; changes no result
LATEST = ("averaged-softmax",)  # kinds that a checkpoint of format 3 does not have: its pool goes on without them
NARROW = ("adaptive-tree", "knn", "prototypes", "history-softmax")  # see the columns alone, where features are many
# Temperaments of the trees in turn: how often each looks at its error, and how soon it is alarmed.
NERVOUS = {"group": 2, "drift_delta": 0.05, "warning_delta": 0.2}
ALERT = {"group": 8, "drift_delta": 0.01, "warning_delta": 0.05}
CALM = {"group": 32, "drift_delta": 1e-4, "warning_delta": 1e-3}


class DriftMoE(BlockClassifier):
    """Trees, neighbours, prototypes, linear experts, target encoding and no-change under three levels of gates.

    Parameters
    ----------
    schema
        Features and classes; None = learn them from the dicts given to `learn_one`.
    trees
        How many adaptive trees.
    window
        Events that the 3 nearest neighbours are looked for in; the 5 nearest are in a window three times as long.
    prototypes
        Moving prototypes in each of the two sets.
    budget
        Multiplies those three, and divides the share of the answer below which an expert falls asleep: below 1
        for less CPU, above for more accuracy.
    without
        Kinds of experts to leave out, separated by commas, as "knn,prototypes".
    seed
        Of everything random.
    threads
        Threads over the experts; the result does not depend on it.
    executor, shards
        Where the experts run, and in how many parts; changes no result. See `stream_moe.experts.executors`.
    class_weight
        How much an event of a class counts in learning, by label; 1 for those not named. None = all count as one.

    Notes
    -----
    Under a label delay the gates learn from the predictions that were made at the time; see
    `stream_moe.router.gates.waiting`. Those events are part of a snapshot, but not of `digest`, which is over what
    has been learnt.

    With a given schema of more than 512 features the dear experts see 128 of them; see `stream_moe.experts.wide`.
    Sparse rows have a model of their own, `stream_moe.SparseDriftMoE`.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> evaluate.progressive_val_score(datasets.Phishing(), DriftMoE(seed=1), metrics.Accuracy())
    Accuracy: 91.03%
    """

    def __init__(
        self,
        schema: Schema | None = None,
        *,
        trees: int = 12,
        window: int = 1000,
        prototypes: int = 128,
        budget: float = 1.0,
        without: str = "",
        seed: int = 1,
        threads: int = 1,
        executor: Executor = "threads",
        shards: int = 0,
        class_weight: Mapping[Any, float] | None = None,
    ) -> None:
        if not (1 <= trees <= 1000 and window >= 4 and prototypes >= 1 and 0 < budget <= 100 and threads >= 1):
            raise ConfigError(
                f"driftmoe: trees {trees} must lie in 1..1000, window {window} at 4 or above, prototypes "
                f"{prototypes} and threads {threads} at 1 or above, budget {budget} in (0, 100]"
            )
        self.trees, self.window, self.prototypes, self.budget = trees, window, prototypes, budget
        check_executor(executor, shards, threads)
        self.without, self.seed, self.threads, self.executor, self.shards = without, seed, threads, executor, shards
        self._absent: tuple[str, ...] = ()
        if schema is None:  # a wrong kind is an error now, not at the first event
            self.make_experts(Schema.numeric(1, ["any"]))
        self.class_weight = checked_weights(class_weight)
        super().__init__(schema)

    _not_learnt = ("waiting", "pool")
    keeps_tickets = True

    def _step(self, x: Float32, y: Int32, weights: Float32, tickets: Int64) -> Float64:
        return self._step_weighted(x, y, weights, tickets, np.ones(len(x)))

    def _step_weighted(self, x: Float32, y: Int32, weights: Float32, tickets: Int64, w: Float64) -> Float64:
        proba = np.empty((len(x), self.schema.n_classes))
        start = 0
        while start < len(x):  # run by run of events, in which the same experts sleep
            run = slice(start, start + self.sleep.before_decision(y[start : start + TILE]))
            proba[run] = self._run(x[run], y[run], weights[run], tickets[run], w[run])
            start = run.stop
        return proba

    def _run(self, x: Float32, y: Int32, weights: Float32, tickets: Int64, w: Float64) -> Float64:
        self.phases.begin()
        # 1. Which experts are active: all that are awake, and on the sample the others too.
        sampled = self.sleep.sample(y)  # [n]
        active = ~self.sleep.asleep[:, None] | sampled  # [E, n]
        # Where there are threads the gates take a part of the run while the experts are at the next.
        proba, begin, settle = np.empty((len(x), self.schema.n_classes)), 0, None
        while begin < len(x):
            part = slice(begin, len(x) if self.threads == 1 else begin + PART)
            chosen = np.ascontiguousarray(active[:, part])
            # 2. Each expert predicts an event, then learns it.
            opinions = self.pool.step(  # [E, n, C], NaN where it is not active
                x[part], y[None, part], w[None, part], chosen, beside=settle
            )
            self.phases.end("experts")
            settle = partial(
                self._settle, opinions, y[part], tickets[part], chosen, sampled[part], proba[part],
                weights[part], w[part],
            )  # fmt: skip
            begin = part.stop
        if settle is not None:
            settle(self.phases)
        return proba

    def _settle(
        self,
        opinions: Float64,
        y: Int32,
        tickets: Int64,
        active: Bool,
        sampled: Bool,
        proba: Float64,
        weights: Float32,
        w: Float64,
        phases: Phases | None = None,
    ) -> None:
        """Answer with what the experts said of n events, and learn from it; `proba` and `weights` are written."""
        # 3. The gates mix the predictions of an event, then learn; of a late label, from those made at the time.
        proba[...], shares, right, scored = self.gates.step(opinions, y, tickets, self.waiting, w)
        weights[...] = shares  # [n, E] of the answer
        if phases is not None:
            phases.end("route")
        # 4. Count who is routed what and who is right; watch the errors of the experts and of the mixture.
        self.specialization.update(shares.argmax(1), shares, active, right, y)
        self.monitor.update(labelled_errors(right, scored, y))
        # 5. Decide, where it is due, which experts sleep from here on.
        drifts = int(self.monitor.drifts[-1])
        self.sleep.update(shares, right, sampled, y, drifts, late=self.gates.late)
        if phases is not None:
            phases.end("account")

    def _predict(self, x: Float32) -> Float64:
        active = ~self.sleep.asleep[:, None] | self.sleep.sample(np.full(len(x), -1, np.int32))
        return self.gates.answer(self.pool.predict(x, active))

    @property
    def newest_ticket(self) -> int:  # type: ignore[override]
        """The latest ticket under which something is kept; -1 = there was none."""
        return self.waiting.newest

    @property
    def n_experts(self) -> int:
        return len(self.pool)

    def _start(self, schema: Schema) -> None:
        experts = [expert for expert in self.make_experts(schema) if expert.kind not in self._absent]
        self.pool = self._open_pool(schema, experts)
        self.gates = OnlineGates(np.array([e.in_committee for e in experts]), schema.n_classes)
        self.waiting = Waiting(self.gates.n_parts, schema.n_classes)
        self.specialization = Specialization(len(experts), schema.n_classes)
        self.monitor = DriftMonitor(len(experts) + 1)  # the experts, then the mixture
        self._drifts = DriftsFound()
        may_sleep = np.array([e.expensive for e in experts])  # the others live on every label
        self.sleep = SleepSchedule(may_sleep, least_share=LEAST_SHARE / self.budget, seed=self.seed)

    def _open_pool(self, schema: Schema, experts: list[Expert]) -> Pool:
        if self._is_wide(schema):
            seen = len([*takewhile(lambda expert: expert.kind in NARROW, experts)])
            return ColumnsPool(WideColumns(schema), experts[:seen], experts[seen:], WorkerThreads(self.threads))
        return open_pool(experts, WorkerThreads(self.threads), self.executor, self.shards)

    def make_experts(self, schema: Schema) -> list[Expert]:
        """Make the experts, in the order of the router's weights; a subclass may add its own (docs/extending.md)."""

        def scaled(n: int, least: int) -> int:
            return max(least, round(n * self.budget))

        size, is_wide = scaled(self.prototypes, 1), self._is_wide(schema)
        seen = columns_schema(PLACES, schema) if is_wide else schema
        dear: list[Expert] = [
            *(self._tree(seen, member) for member in range(scaled(self.trees, 1))),
            WindowKNN(seen, k=3, window=scaled(self.window, 4)),
            WindowKNN(seen, k=5, window=scaled(3 * self.window, 8)),
            MovingPrototypes(seen, size=size),
            MovingPrototypes(seen, size=size, drift=2e-4, reach=5.0),
        ]
        linear: list[Expert] = [NaiveBayes(schema), SoftmaxRegression(schema), AveragedSoftmax(schema)]
        history: list[Expert] = [
            HistorySoftmax(seen),
            HistorySoftmax(seen, memory=0.99),
            HistorySoftmax(seen, products=66),
        ]
        last: list[Expert] = [TargetEncoding(schema), NoChange(schema)]
        if is_wide:  # those over columns come first
            return self._wanted([*dear, *history, *linear, *last])
        return self._wanted([*dear, *linear, *history, *last])

    def _is_wide(self, schema: Schema) -> bool:
        """Whether the dear experts see some of the features alone: of a schema that was given, and cannot grow."""
        if schema.n_features <= MOST_FEATURES or self._given["schema"] is None:
            return False
        if self.executor != "threads":
            raise ConfigError(
                f"executor: {self.executor!r} takes at most {MOST_FEATURES} features; leave it at threads"
            )
        return True

    def _wanted(self, experts: list[Expert]) -> list[Expert]:
        """Return those that `without` does not name; ConfigError where it leaves none, or names one that is none."""
        unwanted = {current_kind(kind.strip()) for kind in self.without.split(",") if kind.strip()}
        kinds = {expert.kind for expert in experts}
        if not unwanted < kinds:
            raise ConfigError(
                f"driftmoe: without {self.without!r}; name some of {', '.join(sorted(kinds))}, but not all"
            )
        return [expert for expert in experts if expert.kind not in unwanted]

    def _tree(self, schema: Schema, member: int) -> AdaptiveTree:
        temper = CALM if member % 12 == 11 else (NERVOUS, ALERT)[member % 2]
        share = 1.0 if member % 4 in {0, 3} else 0.7
        return AdaptiveTree(schema, share=share, seed=self.seed, member=member, **temper)  # type: ignore[arg-type]

    def _grow(self, schema: Schema) -> None:
        self.pool.grow(schema)
        self.gates.grow(schema.n_classes)
        self.waiting.grow(schema.n_classes)
        self.specialization.grow(self.n_experts, schema.n_classes)

    def snapshot(self) -> Snapshot:
        """As `BlockClassifier.snapshot`, with the kinds of experts."""
        arrays, plain = super().snapshot()
        return arrays, plain | {"pool": {"experts": self._census()}}

    def restore(self, snapshot: Snapshot) -> None:
        """As `BlockClassifier.restore`; CheckpointError where the snapshot is of other experts."""
        if self._rows.started:
            self._take_experts(snapshot[1].get("pool", {}).get("experts", "another model"))
        super().restore(snapshot)
        ring = self.waiting.ring
        check("waiting", "learnt", ring.learnt[ring.open], Range(0, self.gates.learnt))  # or a delay is below 0
        self._drifts.skip(self.pool.facts())

    def _take_experts(self, census: str) -> None:
        """Have the experts of a snapshot, or refuse it."""
        for kind, now in FORMER.items():
            census = census.replace(f" x {kind}", f" x {now}")
        if census != self._census() and census == self._census(without=LATEST):  # made before there was such a kind
            self._absent = LATEST
            self._start(self.schema)
        if census != self._census():
            raise CheckpointError(
                f"driftmoe: the checkpoint is of {census}, this model has {self._census()}; use the settings it "
                "was made with"
            )

    def _census(self, without: tuple[str, ...] = ()) -> str:
        kinds = [kind for kind in self.pool.kinds if kind not in without]
        return ", ".join(f"{kinds.count(kind)} x {kind}" for kind in dict.fromkeys(kinds))

    def _parts(self) -> Mapping[str, Part]:
        return {
            "experts": self.pool,
            "gates": self.gates,
            "waiting": self.waiting,
            "specialization": self.specialization,
            "monitor": self.monitor,
            "sleep": self.sleep,
        }

    def take_drifts(self) -> list[LearnerDrift]:
        """As `BlockClassifier.take_drifts`; of an expert with a detector of its own only the block is known."""
        return self._drifts.take(self.pool.facts(), self.monitor)

    def _report(self) -> LearnerReport:
        """As `BlockClassifier.report`; warnings and drifts of an expert with a detector are its detector's."""
        facts, missed = self.pool.facts(), self.sleep.missed
        found = learner_report(facts, self.specialization, self.monitor, self.gates.loss, missed)
        for expert, asleep, wakes in zip(found.experts, self.sleep.asleep, self.sleep.wakes, strict=True):
            expert.asleep, expert.wakes = bool(asleep), int(wakes)
        return found
