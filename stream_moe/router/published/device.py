"""The published router on a CUDA device: one launch per mini-batch.

A mini-batch of 256 events is so little work that a GPU would spend its time waiting for commands. So all
buffers have one fixed shape and one fixed place, and each of the two programs, forward, and forward with
backward and Adam, is captured once as a CUDA graph and launched as a whole. Rows go over in pinned memory.
As nothing is allocated after the start, a device that has room for the router at the start has it for ever.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from stream_moe.errors import ConfigError
from stream_moe.router.published.adam import BETA1, BETA2, EPSILON
from stream_moe.router.published.kernels import make_usable
from stream_moe.router.published.mlp import Activations, Router, Widths, layer_shapes
from stream_moe.types import Float32


class DeviceRouter(Router):
    """`Router` in torch throughout, on a device.

    Its logits differ from the CPU's in the last bits, so a state digest belongs to one kind of device. A row's
    logits do not depend on the block that it came in: every forward pass has the same shape.

    Parameters
    ----------
    n_features, n_experts, **parameters
        As for `Router`.
    device
        "cuda"; or "cpu", which runs the same program without the graphs.
    tile
        Rows of one pass: the mini-batch.

    Raises
    ------
    ConfigError
        If there is no such device, or no room on it.

    Examples
    --------
    >>> import numpy as np
    >>> router = DeviceRouter(3, 4, device="cpu", tile=5, seed=1)
    >>> x, target = np.ones((5, 3), np.float32), np.tile(np.float32([1, 0, 0, 1]), (5, 1))
    >>> first = router.learn(x, target)
    >>> router.learn(x, target) < first
    True
    """

    def __init__(
        self, n_features: int, n_experts: int, *, device: str = "cuda", tile: int = 256, **parameters: Any
    ) -> None:
        if device not in {"cpu", "cuda"}:
            raise ConfigError(f"device: {device!r}; choose cpu or cuda")
        if device == "cuda" and not torch.cuda.is_available():
            raise ConfigError("device: 'cuda', but torch finds no CUDA device here; use --device cpu or auto")
        self.device, self.tile = torch.device(device), tile
        super().__init__(n_features, n_experts, **parameters)

    @property
    def loss(self) -> float:
        """Of the last mini-batch; reading it waits for the device."""
        return float(self._loss)

    @loss.setter
    def loss(self, value: float) -> None:
        self._loss = torch.tensor(value)

    def forward(self, rows: Activations) -> None:
        """Fill `rows.logits` from `rows.x`, whose missing values become 0; the hidden layers stay on the device."""
        make_usable(rows.x)
        for start in range(0, len(rows.x), self.tile):
            some = rows.x[start : start + self.tile]
            self._host_x[: len(some)] = torch.from_numpy(some)
            with one_thread():
                self._x.copy_(self._host_x, non_blocking=True)
                self._route()
                self._host_logits.copy_(self._logits, non_blocking=True)
            self._wait()
            rows.logits[start : start + self.tile] = self._host_logits[: len(some)].numpy()

    def learn(self, x: Float32, target: Float32, activations: Activations | None = None) -> float:
        """As `Router.learn`, for exactly `tile` rows; `activations` are made anew, on the device.

        Returns NaN at once where the device is still at work; `loss` waits for it.
        """
        if len(x) != self.tile:
            raise ConfigError(f"router: a mini-batch of {len(x)} rows, this one takes {self.tile}")
        usable = np.ascontiguousarray(x).copy()
        make_usable(usable)
        self._wait()  # the last step may still be reading the pinned rows
        self._host_x[:], self._host_target[:] = torch.from_numpy(usable), torch.from_numpy(target)
        self.steps += 1
        with one_thread():
            self._x.copy_(self._host_x, non_blocking=True)
            self._target.copy_(self._host_target, non_blocking=True)
            self._train()
        self._loss = self._last_loss
        return self.loss if self.device.type == "cpu" else float("nan")

    def learn_online(self, x: Float32, target: Float32) -> Float32:
        raise ConfigError("device: one step per event runs on the CPU only; use --device cpu")

    def _set(self, widths: Widths, flat: Float32, m: Float32 | None = None, v: Float32 | None = None) -> None:
        try:
            super()._set(widths, flat, m, v)
            arrays = (self._flat, self._gradient, *self._moments)
            self._tensors = [torch.from_numpy(array).to(self.device) for array in arrays]
            self._prepare()
        except torch.OutOfMemoryError as error:
            raise ConfigError(
                f"device: {str(self.device)!r} has no room for the router ({flat.nbytes * 4 / 2**20:.0f} MiB and "
                "torch's own): free it, or use --device cpu"
            ) from error

    def _prepare(self) -> None:
        """Lay out the fixed buffers and make the two programs."""
        d, e = self.widths[0], self.widths[-1]
        pinned = self.device.type == "cuda"
        self._host_x, self._host_target, self._host_logits = (
            torch.zeros(self.tile, width, pin_memory=pinned) for width in (d, e, e)
        )
        self._x, self._target = self._host_x.to(self.device), self._host_target.to(self.device)
        self._logits = torch.zeros(self.tile, e, device=self.device)
        self._last_loss = torch.zeros((), device=self.device)
        self._step = torch.tensor(float(self.steps), device=self.device)
        self._route = self._captured(self._layered)
        self._train = self._captured(self._learn_tile)

    def _layered(self) -> tuple[torch.Tensor, torch.Tensor]:
        w1, b1, w2, b2, w3, b3 = _split(self._tensors[0], self.widths)
        hidden1 = torch.relu(torch.addmm(b1, self._x, w1))
        hidden2 = torch.relu(torch.addmm(b2, hidden1, w2))
        torch.addmm(b3, hidden2, w3, out=self._logits)
        return hidden1, hidden2

    def _learn_tile(self) -> None:
        hidden1, hidden2 = self._layered()
        self._last_loss.copy_(torch.nn.functional.binary_cross_entropy_with_logits(self._logits, self._target))
        delta = torch.sigmoid(self._logits).sub_(self._target).div_(self._target.numel())
        self._step += 1
        self._differentiate(hidden1, hidden2, delta)
        p, gradient, m, v = ([tensor] for tensor in self._tensors)
        torch._fused_adam_(  # what `torch.optim.Adam` calls too; that class takes 1.3 s to load
            p, gradient, m, v, [], [self._step], lr=self.learning_rate, beta1=BETA1, beta2=BETA2, weight_decay=0.0,
            eps=EPSILON, amsgrad=False, maximize=False,
        )  # fmt: skip

    def _differentiate(self, hidden1: torch.Tensor, hidden2: torch.Tensor, delta: torch.Tensor) -> None:
        """Write the gradient; delta [B, E] is the one at the logits. autograd would allocate."""
        _, _, w2, _, w3, _ = _split(self._tensors[0], self.widths)
        g1, gb1, g2, gb2, g3, gb3 = _split(self._tensors[1], self.widths)
        torch.mm(hidden2.T, delta, out=g3)
        torch.sum(delta, 0, out=gb3)
        delta2 = torch.ops.aten.threshold_backward(delta @ w3.T, hidden2, 0)
        torch.mm(hidden1.T, delta2, out=g2)
        torch.sum(delta2, 0, out=gb2)
        delta1 = torch.ops.aten.threshold_backward(delta2 @ w2.T, hidden1, 0)
        torch.mm(self._x.T, delta1, out=g1)
        torch.sum(delta1, 0, out=gb1)

    def _captured(self, program: Callable[[], object]) -> Callable[[], object]:
        """The program as a CUDA graph; on the CPU as it is."""
        if self.device.type == "cpu":
            return program
        p, _, m, v = self._tensors
        state = [p, m, v, self._step, self._last_loss]
        before = [tensor.clone() for tensor in state]
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.no_grad(), torch.cuda.stream(stream):
            for _ in range(3):  # libraries set themselves up in their first calls, which cannot be captured
                program()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(graph):
            program()
        for tensor, value in zip(state, before, strict=True):  # the rehearsals taught it
            tensor.copy_(value)
        return graph.replay

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def _learnt(self) -> list[Float32]:
        p, _, m, v = self._tensors
        return [tensor.cpu().numpy() for tensor in (p, m, v)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread: how it splits a sum over threads would change the sum's bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_num_threads(threads)


def _split(flat: torch.Tensor, widths: Widths) -> list[torch.Tensor]:
    shapes = layer_shapes(widths)
    return [p.view(s) for p, s in zip(torch.split(flat, [math.prod(s) for s in shapes]), shapes, strict=True)]
