"""The router on a device: the same program without CUDA's graphs runs here; the graphs where there is a device."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from stream_moe.errors import ConfigError
from stream_moe.models.catalogue import build_model
from stream_moe.models.published.data import DriftMoEData
from stream_moe.router.published.device import DeviceRouter
from stream_moe.router.published.mini_batch import MiniBatch
from stream_moe.router.published.mlp import Router
from stream_moe.streams import open_stream
from stream_moe.types import Float32

D, E, B = 7, 5, 64
DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")),
]


def data(seed: int = 1) -> tuple[Float32, Float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(B, D)).astype(np.float32), (rng.random((B, E)) < 0.3).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
def test_learns_as_the_router_on_the_cpu_does(device: str) -> None:
    there, here = DeviceRouter(D, E, device=device, tile=B), Router(D, E)
    for seed in range(20):
        x, target = data(seed)
        assert there.logits(x) == pytest.approx(here.logits(x), abs=1e-3)
        there.learn(x, target)
        here.learn(x, target)
        assert there.loss == pytest.approx(here.loss, abs=1e-4)
    assert there.steps == 20


@pytest.mark.parametrize("device", DEVICES)
def test_a_row_is_routed_the_same_in_any_block(device: str) -> None:
    router, (x, _) = DeviceRouter(D, E, device=device, tile=B), data()
    whole = router.logits(np.concatenate([x, x]))
    assert np.array_equal(whole[:B], whole[B:])
    assert np.array_equal(np.concatenate([router.logits(x[:1]), router.logits(x[1:])])[:1], whole[:1])


@pytest.mark.parametrize("device", DEVICES)
def test_a_snapshot_goes_on_with_the_same_bits(device: str) -> None:
    (x, target), router = data(), DeviceRouter(D, E, device=device, tile=B)
    router.learn(x, target)
    restored = DeviceRouter(D, E, device=device, tile=B, seed=9)
    restored.restore(router.snapshot())
    for _ in range(3):
        router.learn(x, target)
        restored.learn(x, target)
    assert np.array_equal(restored.logits(x), router.logits(x))
    assert restored.steps == router.steps == 4
    assert restored.loss == router.loss


@pytest.mark.parametrize("device", DEVICES)
def test_growing_changes_no_logit_of_the_experts_that_were_there(device: str) -> None:
    (x, target), router = data(), DeviceRouter(D, E, device=device, tile=B)
    router.learn(x, target)
    before = router.logits(x)
    router.grow(D + 2, E + 1)
    wider = np.column_stack([x, np.ones((B, 2), np.float32)])
    assert router.logits(wider)[:, :E] == pytest.approx(before, abs=1e-5)


def test_missing_values_count_as_zero() -> None:
    (x, target), router = data(), DeviceRouter(D, E, device="cpu", tile=B)
    holes = x.copy()
    holes[:, 2], x[:, 2] = np.nan, 0
    assert np.array_equal(router.logits(holes), router.logits(x))
    router.learn(holes, target)
    assert np.isfinite(router.logits(x)).all()


@pytest.mark.parametrize("device", DEVICES)
def test_the_mixture_is_as_good_with_it(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block = next(open_stream("electricity").blocks(8192))
    here = DriftMoEData(open_stream("electricity").schema)
    monkeypatch.setattr(
        DriftMoEData, "_new_router", lambda self, d, e: DeviceRouter(d, e, device=device, tile=256, seed=self.seed)
    )
    there = DriftMoEData(open_stream("electricity").schema)
    assert isinstance(there.batch, MiniBatch)
    scores = [(m.step(block.x, block.y).argmax(1) == block.y).mean() for m in (here, there)]
    assert scores[1] == pytest.approx(scores[0], abs=0.01)


def test_a_device_that_is_not_there_or_full_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"'tpu'.*cpu or cuda"):
        DeviceRouter(D, E, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device here; use --device cpu"):
            DriftMoEData(open_stream("sea_a").schema, device="cuda")
    with pytest.raises(ConfigError, match="on the CPU only"):
        build_model("driftmoe-task", open_stream("sea_a").schema, device="cuda")

    def full(self: DeviceRouter) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(DeviceRouter, "_prepare", full)  # cannot be produced without a device
    with pytest.raises(ConfigError, match=r"no room for the router.*--device cpu"):
        DeviceRouter(D, E, device="cpu")
