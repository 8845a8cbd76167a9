"""The router against torch's own autograd and Adam, and the routing decisions by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_moe.errors import CheckpointError
from stream_moe.router.published import kernels
from stream_moe.router.published.mlp import Router
from stream_moe.router.published.routing import multi_hot, softmax, top_k
from stream_moe.rows import clean
from stream_moe.runtime.threads import WorkerThreads
from stream_moe.types import Float32

D, E = 7, 5


class Reference:
    """The same network in plain torch."""

    def __init__(self, router: Router, learning_rate: float) -> None:
        self.layers = [torch.tensor(a.copy(), requires_grad=True) for a in router._layers]
        self.adam = torch.optim.Adam(self.layers, lr=learning_rate)

    def logits(self, x: Float32, mask: Float32 | None = None) -> torch.Tensor:
        w1, b1, w2, b2, w3, b3 = self.layers
        hidden = torch.relu(torch.from_numpy(x) @ w1 + b1)
        if mask is not None:
            hidden = hidden * torch.from_numpy(mask)
        return torch.relu(hidden @ w2 + b2) @ w3 + b3

    def learn(self, x: Float32, target: Float32, mask: Float32 | None = None) -> float:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(self.logits(x, mask), torch.from_numpy(target))
        self.adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        return float(loss.detach())


def data(n: int, seed: int = 1) -> tuple[Float32, Float32]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, D)).astype(np.float32)
    return x, (rng.random((n, E)) < 0.3).astype(np.float32)


def same_parameters(router: Router, reference: Reference) -> None:
    """Up to 2e-4: Adam scales a gradient up to its size of 1 even where it is but rounding noise."""
    for mine, theirs in zip(router._layers, reference.layers, strict=True):
        assert mine == pytest.approx(theirs.detach().numpy(), abs=2e-4)


def test_starts_xavier_uniform_with_zero_biases() -> None:
    w1, b1, w2, b2, w3, b3 = Router(D, E, seed=1)._layers
    assert [w.shape for w in (w1, w2, w3)] == [(D, 256), (256, 128), (128, E)]
    for w in (w1, w2, w3):
        bound = np.sqrt(6 / sum(w.shape))
        assert abs(w).max() <= bound
        assert abs(w).max() > 0.98 * bound
        assert w.std() == pytest.approx(bound / np.sqrt(3), rel=0.05)
    assert not any(b.any() for b in (b1, b2, b3))
    assert np.array_equal(Router(D, E, seed=1)._flat, Router(D, E, seed=1)._flat)
    assert not np.array_equal(Router(D, E, seed=1)._flat, Router(D, E, seed=2)._flat)


def test_logits_are_those_of_torch_row_by_row_the_same_bits() -> None:
    router, (x, _) = Router(D, E, seed=1), data(50)
    logits = router.logits(x)
    assert logits == pytest.approx(Reference(router, 1e-3).logits(x).detach().numpy(), abs=1e-5)
    assert np.array_equal(np.concatenate([router.logits(row[None]) for row in x]), logits)
    missing = x.copy()
    missing[3, 2] = np.nan
    x[3, 2] = 0
    assert np.array_equal(router.logits(missing), router.logits(x))
    assert np.isfinite(router.logits(np.full((1, D), 3e38, np.float32))).all()


def test_a_mini_batch_step_is_autograd_and_adam() -> None:
    router = Router(D, E, seed=1, learning_rate=2e-3)
    reference = Reference(router, 2e-3)
    for step in range(20):
        x, target = data(64, seed=step)
        assert router.learn(x, target) == pytest.approx(reference.learn(x, target), rel=1e-4)
    same_parameters(router, reference)
    assert router.steps == 20
    x, _ = data(10)  # the kernel that routes sees what torch has learnt
    assert router.logits(x) == pytest.approx(reference.logits(x).detach().numpy(), abs=1e-4)


def test_learning_event_by_event_is_autograd_and_adam_at_batch_one() -> None:
    router = Router(D, E, seed=1, dropout=0.0)
    reference = Reference(router, 2e-3)
    x, target = data(60)
    unlabelled = target.copy()
    unlabelled[10] = -1.0
    logits = router.learn_online(x, unlabelled)
    for t in range(60):
        assert logits[t] == pytest.approx(reference.logits(x[t : t + 1]).detach().numpy()[0], abs=1e-4)
        if t != 10:
            reference.learn(x[t : t + 1], target[t : t + 1])
    same_parameters(router, reference)
    assert router.steps == 59


def test_dropout_is_inverted_and_follows_into_the_gradient() -> None:
    router = Router(D, E, seed=5, dropout=0.2)
    reference = Reference(router, 2e-3)
    x, target = data(20)
    logits = router.learn_online(x, target)
    mask = np.empty(256, np.float32)
    for t in range(20):
        kernels.keep_mask(5, t, 0.2, mask)
        assert set(mask.tolist()) == {0.0, 1.25}
        assert logits[t] == pytest.approx(reference.logits(x[t : t + 1], mask).detach().numpy()[0], abs=1e-4)
        reference.learn(x[t : t + 1], target[t : t + 1], mask)
    same_parameters(router, reference)
    # Adam hides the scale of a gradient, its first moment does not.
    for moment, layer in zip(router._m, reference.layers, strict=True):
        assert moment == pytest.approx(reference.adam.state[layer]["exp_avg"].numpy(), rel=1e-2, abs=1e-5)
    share = []
    for step in range(200):
        kernels.keep_mask(5, step, 0.2, mask)
        share.append((mask == 0).mean())
    assert np.mean(share) == pytest.approx(0.2, abs=0.01)
    assert len(set(share)) > 10


def test_the_moving_loss_does_not_depend_on_blocks() -> None:
    x, target = data(60)
    whole, parts = Router(D, E, seed=1), Router(D, E, seed=1)
    whole.learn_online(x, target)
    for t in range(0, 60, 7):
        parts.learn_online(x[t : t + 7], target[t : t + 7])
    assert parts.loss == whole.loss
    assert 0.2 < whole.loss < 1.0


def test_growing_leaves_old_logits_and_old_momentum_alone() -> None:
    router, (x, target) = Router(D, E, seed=1), data(64)
    for _ in range(5):
        router.learn(x, target)
    before = router.logits(x)
    moments = [m.copy() for m in router._moments]
    router.grow(D + 2, E + 1)
    wide = np.column_stack([x, np.full((64, 2), 9.0)]).astype(np.float32)
    assert np.array_equal(router.logits(wide)[:, :E], before)
    assert router.logits(wide)[:, E].std() > 0
    for grown, old in zip(router._moments, moments, strict=True):
        assert grown.sum() == pytest.approx(old.sum(), rel=1e-4)
    router.learn(wide, np.column_stack([target, target[:, 0]]))
    assert router.steps == 6


def test_a_snapshot_goes_on_with_the_same_bits_and_refuses_another_shape() -> None:
    (x, target), router, restored = data(64), Router(D, E, seed=1), Router(D, E, seed=9)
    router.learn(x, target)
    restored.restore(router.snapshot())
    for _ in range(3):
        assert restored.learn(x, target) == router.learn(x, target)
    assert np.array_equal(restored._flat, router._flat)
    with pytest.raises(CheckpointError, match="parameters"):
        Router(D + 1, E).restore(router.snapshot())


def test_threads_change_no_bit() -> None:
    (x, target), alone, helped = data(256), Router(D, E), Router(D, E, workers=WorkerThreads(3))
    for _ in range(3):
        assert helped.learn(x, target) == alone.learn(x, target)
    assert np.array_equal(helped._flat, alone._flat)
    assert np.array_equal(helped.logits(x[:100]), alone.logits(x[:100]))


def test_softmax_of_each_row_at_a_temperature() -> None:
    logits = np.random.default_rng(1).normal(0, 300, (20, 4)).astype(np.float32)
    assert softmax(logits, 0.8) == pytest.approx(
        torch.softmax(torch.from_numpy(logits.astype(float)) / 0.8, 1).numpy(), abs=1e-6
    )


def test_top_k_takes_the_highest_and_the_lower_index_on_a_tie() -> None:
    weights = np.array([[0.1, 0.4, 0.4, 0.1], [0.7, 0.1, 0.1, 0.1]], np.float32)
    assert top_k(weights, 2).T.tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]


def test_the_mask_is_who_was_right_or_else_who_gave_the_class_most() -> None:
    proba = np.array(
        [
            [[0.9, 0.1, 0.0], [0.6, 0.3, 0.1], [1.0, 0.0, 0.0]],
            [[0.8, 0.1, 0.1], [0.5, 0.4, 0.1], [1.0, 0.0, 0.0]],
        ]
    )
    right, mask = multi_hot(proba, np.array([0, 1, -1], np.int32))
    assert right.tolist() == [[1, 1], [0, 0], [0, 0]]
    assert mask.tolist() == [[1, 1], [0, 1], [0, 0]]


def test_clean_mends_what_no_model_may_see() -> None:
    x = np.array([[np.inf, 1], [np.nan, 2], [-np.inf, 0.5], [3e38, -1]], np.float32)
    assert clean(x, np.array([0, 2], np.int32)) == 5
    assert np.array_equal(
        x, np.array([[np.nan, 1], [np.nan, np.nan], [np.nan, np.nan], [3e38, np.nan]], np.float32), True
    )
