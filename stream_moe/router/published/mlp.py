"""The published router: a small MLP from features to one logit per expert.

Source: DriftMoE (arXiv 2507.18464), section on the router: d -> 256 -> 128 -> E, ReLU, Xavier-uniform
weights, zero biases, Adam.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.ranges import ANY, COUNT, expect, number
from stream_moe.router.published import kernels
from stream_moe.router.published.adam import adam_step
from stream_moe.router.published.backward import Work, blame, descend
from stream_moe.router.published.sparse import aligned
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32

MOST_PARAMETERS = 2**28  # 1 GiB, and three times as much for gradient and moments
LEAST_ROWS = 32  # fewer are not worth waking a thread for


Widths = tuple[int, int, int, int]  # d, two hidden layers, E


class Activations(NamedTuple):
    """What a forward pass leaves: float32 arrays of n rows each."""

    x: Float32  # [n, d]
    hidden1: Float32
    hidden2: Float32
    logits: Float32  # [n, E]

    @classmethod
    def empty(cls, n: int, widths: Sequence[int]) -> Activations:
        return cls(*(aligned(n, width) for width in widths))

    def rows(self, start: int, stop: int) -> Activations:
        """A view of some rows."""
        return Activations(*(array[start:stop] for array in self))


class Router:
    """MLP d -> hidden -> E whose parameters are one flat float32 vector.

    Rows are routed and differentiated by compiled kernels that skip the zeros of the ReLUs; Adam's step is compiled,
    too. `stream_moe.router.published.device` has the same router in torch, on a CUDA device.

    Parameters
    ----------
    n_features, n_experts
        d and E.
    hidden
        Widths of the two hidden layers.
    learning_rate
        Of Adam.
    dropout
        After the first hidden layer; acts in `learn_online` only, as published.
    seed
        Of the initial weights and of dropout.
    workers
        Threads that share the work of `forward` and `learn`; they change no bit.

    Examples
    --------
    >>> import numpy as np
    >>> router = Router(3, 4, seed=1)
    >>> x = np.ones((5, 3), np.float32)
    >>> router.logits(x).shape
    (5, 4)
    >>> target = np.tile(np.float32([1, 0, 0, 1]), (5, 1))
    >>> first = router.learn(x, target)
    >>> router.learn(x, target) < first
    True
    """

    def __init__(
        self,
        n_features: int,
        n_experts: int,
        *,
        hidden: tuple[int, int] = (256, 128),
        learning_rate: float = 2e-3,
        dropout: float = 0.2,
        seed: int = 1,
        workers: WorkerThreads | None = None,
    ) -> None:
        self._workers = workers or WorkerThreads(1)
        self.hidden, self.learning_rate, self.dropout, self.seed = hidden, learning_rate, dropout, seed
        self.steps = 0
        self.loss = math.nan
        self._work: Work
        rng = np.random.default_rng(seed)
        widths = (n_features, *hidden, n_experts)
        if _size(widths) > MOST_PARAMETERS:
            raise ConfigError(
                f"router: {_size(widths):,} parameters for {n_features} features and layers of {hidden[0]} and "
                f"{hidden[1]}; at most {MOST_PARAMETERS:,} are made, choose a smaller hidden"
            )
        values = []
        for inputs, outputs in itertools.pairwise(widths):
            bound = math.sqrt(6.0 / (inputs + outputs))
            values += [rng.uniform(-bound, bound, inputs * outputs), np.zeros(outputs)]
        self._set(widths, np.concatenate(values).astype(np.float32))

    @property
    def n_experts(self) -> int:
        return self.widths[-1]

    def logits(self, x: Float32) -> Float32:
        """Return float32 [n, E] for features float32 [n, d]; missing values count as 0."""
        rows = self._few.rows(0, len(x)) if len(x) <= LEAST_ROWS else Activations.empty(len(x), self.widths)
        rows.x[:] = x
        self.forward(rows)
        return rows.logits.copy()

    def forward(self, rows: Activations) -> None:
        """Fill the activations of `rows.x`, whose missing values become 0."""
        kernels.make_usable(rows.x)
        n = len(rows.x)
        if n <= LEAST_ROWS:
            self._forward(rows)
            return
        size = max(-(-n // self._workers.threads), LEAST_ROWS)
        self._workers.each(partial(self._forward, rows.rows(start, start + size)) for start in range(0, n, size))

    def _forward(self, rows: Activations) -> None:
        row = np.empty(max(self.widths), np.int32)
        kernels.forward(rows.x, self._layers, row, rows.hidden1, rows.hidden2, rows.logits)

    def learn(self, x: Float32, target: Float32, activations: Activations | None = None) -> float:
        """Take one Adam step on the mean binary cross-entropy of a mini-batch; return that loss.

        Parameters
        ----------
        x
            float32 [B, d].
        target
            float32 [B, E], 1 where the expert should be chosen.
        activations
            Of exactly these rows under the present weights, if they are at hand.
        """
        if activations is None:
            activations = Activations.empty(len(x), self.widths)
            activations.x[:] = x
            self.forward(activations)
        if len(x) != len(self._work.delta3):
            self._work = Work.empty(len(x), self.widths)
        self.loss = blame(activations.logits, target, self._work.delta3)
        descend(*activations[:3], self._layers, self._work, self._gradients, self._workers)
        self.steps += 1
        m, v = self._moments
        adam_step(self._flat, self._gradient, m, v, self.learning_rate, self.steps)
        return self.loss

    def learn_online(self, x: Float32, target: Float32) -> Float32:
        """Predict, then learn, row by row with dropout active; return the logits [n, E] before each step.

        A row whose first target is negative is predicted only.
        """
        out = np.empty((len(x), self.n_experts), np.float32)
        x = x.copy()
        kernels.make_usable(x)
        self.loss = kernels.online_steps(
            x, target, self._layers, self._m, self._v, self.learning_rate, self.dropout,
            self.seed, self.steps, self._scratch, out, self.loss,
        )  # fmt: skip
        self.steps += int((target[:, 0] >= 0).sum())
        return out

    def grow(self, n_features: int, n_experts: int) -> None:
        """Add inputs (weights 0: no logit changes) and experts (Xavier-uniform)."""
        before, widths = self.widths, (n_features, *self.hidden, n_experts)
        rng = np.random.default_rng((self.seed, n_features, n_experts))
        bound = math.sqrt(6.0 / (self.hidden[1] + n_experts))
        fresh = rng.uniform(-bound, bound, (self.hidden[1], n_experts)).astype(np.float32)
        grown = []
        for flat, last in zip(self._learnt(), (fresh, None, None), strict=True):
            array = np.zeros(_size(widths), np.float32)
            target, source = _views(array, widths), _views(flat, before)
            if last is not None:
                target.w3[...] = last
            for new, kept in zip(target, source, strict=True):
                new[tuple(slice(n) for n in kept.shape)] = kept
            grown.append(array)
        self._set(widths, grown[0], grown[1], grown[2])

    def snapshot(self) -> Snapshot:
        arrays = dict(zip(("parameters", "m", "v"), self._learnt(), strict=True))
        plain = {"steps": self.steps, "loss": None if math.isnan(self.loss) else self.loss}
        return {name: array.copy() for name, array in arrays.items()}, plain

    def restore(self, snapshot: Snapshot) -> None:
        arrays, plain = snapshot
        if arrays["parameters"].shape != (_size(self.widths),):
            raise CheckpointError(
                f"router: {arrays['parameters'].size} parameters in the checkpoint, {_size(self.widths)} expected"
            )
        shape, loss = (_size(self.widths),), plain["loss"]
        learnt = [expect("router", arrays, name, np.float32, shape, ANY) for name in ("parameters", "m", "v")]
        if type(loss) not in (float, int, type(None)):
            raise CheckpointError(f"router: number 'loss' is {ascii(loss)[:40]}, and a number or null is allowed")
        self.steps = number("router", plain, "steps", COUNT)
        self.loss = math.nan if loss is None else float(loss)
        self._set(self.widths, *learnt)

    def _set(self, widths: Widths, flat: Float32, m: Float32 | None = None, v: Float32 | None = None) -> None:
        """Lay parameters, gradient and Adam's moments out as views of flat vectors."""
        self.widths = widths
        parameters, gradient, *moments = (aligned(flat.size) for _ in range(4))
        for array, given in zip((parameters, gradient, *moments), (flat, None, m, v), strict=True):
            array[:] = 0.0 if given is None else given
        self._flat, self._gradient, self._moments = parameters, gradient, moments
        self._layers, self._gradients = _views(parameters, widths), _views(gradient, widths)
        self._m, self._v = (_views(a, widths) for a in moments)
        self._work = Work.empty(0, widths)
        self._few = Activations.empty(LEAST_ROWS, widths)
        h1, h2, out = (np.zeros(n, np.float32) for n in widths[1:])
        self._scratch = kernels.Scratch(
            h1, h1.copy(), h2, h1.copy(), h2.copy(), out, np.ones(1, np.float32), np.zeros(max(widths), np.int32)
        )

    def _learnt(self) -> list[Float32]:
        """Parameters and Adam's two moments as they are now, flat."""
        return [self._flat, *self._moments]


def layer_shapes(widths: Widths) -> list[tuple[int, ...]]:
    return [shape for i, o in itertools.pairwise(widths) for shape in ((i, o), (o,))]


def _size(widths: Widths) -> int:
    return sum(math.prod(shape) for shape in layer_shapes(widths))


def _views(flat: Float32, widths: Widths) -> kernels.Layers:
    shapes = layer_shapes(widths)
    cuts = np.cumsum([math.prod(s) for s in shapes])[:-1]
    return kernels.Layers(*(p.reshape(s) for p, s in zip(np.split(flat, cuts), shapes, strict=True)))
