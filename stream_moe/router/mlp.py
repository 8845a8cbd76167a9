"""The published router: a small MLP from features to one logit per expert, learnt in torch.

Source: DriftMoE (arXiv 2507.18464), section on the router: d -> 256 -> 128 -> E, ReLU, Xavier-uniform
weights, zero biases, Adam.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.experts.base import Snapshot
from stream_moe.router import kernels
from stream_moe.types import Float32

INPUT_LIMIT = 1e9  # far beyond any real feature, and small enough that no square overflows float32


class Activations(NamedTuple):
    """What a forward pass leaves: float32 arrays of n rows each."""

    x: Float32  # [n, d]
    hidden1: Float32
    hidden2: Float32
    logits: Float32  # [n, E]

    @classmethod
    def empty(cls, n: int, widths: Sequence[int]) -> Activations:
        return cls(*(np.empty((n, width), np.float32) for width in widths))

    def rows(self, start: int, stop: int) -> Activations:
        """A view of some rows."""
        return Activations(*(array[start:stop] for array in self))


class Router:
    """MLP d -> hidden -> E whose parameters are one flat float32 vector.

    On the CPU rows are routed by the compiled kernel and learnt by torch on the same memory; on CUDA torch
    does both, in tiles of one fixed shape so that a row's logits do not depend on its block.

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
    device
        "cpu" or "cuda".
    tile
        Rows of one CUDA forward pass.

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
        device: str = "cpu",
        tile: int = 256,
    ) -> None:
        if device not in {"cpu", "cuda"}:
            raise ConfigError(f"device: {device!r}; choose cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device: 'cuda', but torch finds no CUDA device here; use --device cpu or auto")
        self.hidden, self.learning_rate, self.dropout = hidden, learning_rate, dropout
        self.seed, self.device, self.tile = seed, device, tile
        self.steps = 0
        self.loss = math.nan
        rng = np.random.default_rng(seed)
        widths = (n_features, *hidden, n_experts)
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
        rows = Activations.empty(len(x), self.widths)
        rows.x[:] = x
        self.forward(rows)
        return rows.logits

    def forward(self, rows: Activations) -> None:
        """Fill the activations of `rows.x`, whose missing values become 0."""
        _make_usable(rows.x)
        if self.device == "cuda":
            rows.logits[:] = self._tiled(rows.x)
        else:
            kernels.forward(rows.x, self._layers, self._scratch.active, rows.hidden1, rows.hidden2, rows.logits)

    def learn(self, x: Float32, target: Float32, activations: Activations | None = None) -> float:
        """Take one Adam step on the mean binary cross-entropy of a mini-batch; return that loss.

        Parameters
        ----------
        x
            float32 [B, d].
        target
            float32 [B, E], 1 where the expert should be chosen.
        activations
            Of exactly these rows under the present weights, if they are at hand; CUDA makes its own.
        """
        with _one_thread():
            wanted = torch.from_numpy(target).to(self.device)
            w1, b1, w2, b2, w3, b3 = self._tensors
            if self.device == "cuda":
                inputs = torch.from_numpy(x).to(self.device).nan_to_num_().clamp_(-INPUT_LIMIT, INPUT_LIMIT)
                hidden1 = torch.relu(torch.addmm(b1, inputs, w1))
                hidden2 = torch.relu(torch.addmm(b2, hidden1, w2))
                logits = torch.addmm(b3, hidden2, w3)
            else:
                if activations is None:
                    activations = Activations.empty(len(x), self.widths)
                    activations.x[:] = x
                    self.forward(activations)
                inputs, hidden1, hidden2, logits = (torch.from_numpy(a) for a in activations)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted)
            # Three layers are short enough to differentiate by hand, straight into the flat gradient.
            g1, gb1, g2, gb2, g3, gb3 = self._gradients
            delta = torch.sigmoid(logits).sub_(wanted).div_(wanted.numel())
            torch.mm(hidden2.T, delta, out=g3)
            torch.sum(delta, 0, out=gb3)
            delta = torch.ops.aten.threshold_backward(delta @ w3.T, hidden2, 0)
            torch.mm(hidden1.T, delta, out=g2)
            torch.sum(delta, 0, out=gb2)
            delta = torch.ops.aten.threshold_backward(delta @ w2.T, hidden1, 0)
            torch.mm(inputs.T, delta, out=g1)
            torch.sum(delta, 0, out=gb1)
            self.steps += 1
            self._adam()
            self.loss = float(loss)
        return self.loss

    def learn_online(self, x: Float32, target: Float32) -> Float32:
        """Predict, then learn, row by row with dropout active; return the logits [n, E] before each step.

        A row whose first target is negative is predicted only.
        """
        if self.device != "cpu":
            raise ConfigError("device: one step per event runs on the CPU only; use --device cpu")
        out = np.empty((len(x), self.n_experts), np.float32)
        x = x.copy()
        _make_usable(x)
        self.loss = kernels.online_steps(
            x, target, self._layers, self._m, self._v, self.learning_rate, self.dropout,
            self.seed, self.steps, self._scratch, out, self.loss,
        )  # fmt: skip
        self.steps += int((target[:, 0] >= 0).sum())
        return out

    def grow(self, n_features: int, n_experts: int) -> None:
        """Add inputs (weights 0: what the router says does not change) and experts (Xavier-uniform)."""
        old = [(self._flat, self.widths)], [(a, self.widths) for a in self._moments]
        widths = (n_features, *self.hidden, n_experts)
        rng = np.random.default_rng((self.seed, n_features, n_experts))
        bound = math.sqrt(6.0 / (self.hidden[1] + n_experts))
        fresh = rng.uniform(-bound, bound, (self.hidden[1], n_experts)).astype(np.float32)
        grown = []
        for (flat, before), last in zip([*old[0], *old[1]], (fresh, None, None), strict=True):
            array = np.zeros(_size(widths), np.float32)
            target, source = _views(array, widths), _views(flat.cpu().numpy(), before)
            if last is not None:
                target.w3[...] = last
            for new, kept in zip(target, source, strict=True):
                new[tuple(slice(n) for n in kept.shape)] = kept
            grown.append(array)
        self._set(widths, grown[0], grown[1], grown[2])

    def snapshot(self) -> Snapshot:
        arrays = {"parameters": self._flat, "m": self._moments[0], "v": self._moments[1]}
        plain = {"steps": self.steps, "loss": None if math.isnan(self.loss) else self.loss}
        return {name: tensor.cpu().numpy().copy() for name, tensor in arrays.items()}, plain

    def restore(self, snapshot: Snapshot) -> None:
        arrays, plain = snapshot
        if arrays["parameters"].shape != (_size(self.widths),):
            raise CheckpointError(
                f"router: {arrays['parameters'].size} parameters in the checkpoint, {_size(self.widths)} expected"
            )
        self.steps = int(plain["steps"])
        self.loss = math.nan if plain["loss"] is None else float(plain["loss"])
        self._set(self.widths, arrays["parameters"].copy(), arrays["m"].copy(), arrays["v"].copy())

    def _adam(self) -> None:
        """One step of Adam by torch's fused kernel. `torch.optim.Adam` calls it too, but takes 1.3 s to load."""
        step = torch.tensor(float(self.steps), device=self.device)
        torch._fused_adam_(
            [self._flat], [self._gradient], [self._moments[0]], [self._moments[1]], [], [step],
            lr=self.learning_rate, beta1=0.9, beta2=0.999, weight_decay=0.0, eps=1e-8, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _tiled(self, x: Float32) -> Float32:
        w1, b1, w2, b2, w3, b3 = self._tensors
        out = np.empty((len(x), self.n_experts), np.float32)
        tile = np.zeros((self.tile, x.shape[1]), np.float32)
        for start in range(0, len(x), self.tile):
            rows = x[start : start + self.tile]
            tile[: len(rows)] = rows
            hidden = torch.relu(torch.addmm(b1, torch.from_numpy(tile).to(self.device), w1))
            logits = torch.addmm(b3, torch.relu(torch.addmm(b2, hidden, w2)), w3)
            out[start : start + self.tile] = logits[: len(rows)].cpu().numpy()
        return out

    def _set(
        self, widths: tuple[int, ...], flat: Float32, m: Float32 | None = None, v: Float32 | None = None
    ) -> None:
        """Lay parameters, gradient and Adam's moments out as views of flat vectors."""
        self.widths = widths
        self._flat = torch.from_numpy(flat).to(self.device)
        self._gradient = torch.zeros_like(self._flat)
        self._tensors = _split(self._flat, widths)
        self._gradients = _split(self._gradient, widths)
        moments = [np.zeros_like(flat) if a is None else a for a in (m, v)]
        self._moments = [torch.from_numpy(a).to(self.device) for a in moments]
        if self.device == "cpu":
            self._layers = _views(flat, widths)
            self._m, self._v = (_views(a, widths) for a in moments)
        h1, h2, out = (np.zeros(n, np.float32) for n in widths[1:])
        self._scratch = kernels.Scratch(h1, h1.copy(), h2, h1.copy(), h2.copy(), out, np.zeros(max(widths), np.int32))


def _make_usable(x: Float32) -> None:
    """Take missing values as 0 and bound the others, in place."""
    np.clip(np.nan_to_num(x, copy=False), -INPUT_LIMIT, INPUT_LIMIT, out=x)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Run torch on one thread: how it splits a sum over threads would change the sum's bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def _shapes(widths: tuple[int, ...]) -> list[tuple[int, ...]]:
    return [shape for i, o in itertools.pairwise(widths) for shape in ((i, o), (o,))]


def _size(widths: tuple[int, ...]) -> int:
    return sum(math.prod(shape) for shape in _shapes(widths))


def _split(flat: torch.Tensor, widths: tuple[int, ...]) -> list[torch.Tensor]:
    shapes = _shapes(widths)
    return [p.view(s) for p, s in zip(torch.split(flat, [math.prod(s) for s in shapes]), shapes, strict=True)]


def _views(flat: Float32, widths: tuple[int, ...]) -> kernels.Layers:
    shapes = _shapes(widths)
    cuts = np.cumsum([math.prod(s) for s in shapes])[:-1]
    return kernels.Layers(*(p.reshape(s) for p, s in zip(np.split(flat, cuts), shapes, strict=True)))
