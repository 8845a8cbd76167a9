"""A model or experts of a user's own in the daemon: imported by name, and held to the contract before they learn."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np

from stream_moe.errors import ConfigError, StreamMoeError
from stream_moe.experts.base import Expert
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.models.single import SingleExpert
from stream_moe.runtime.own import in_one_line, load_class, make
from stream_moe.types import Float32, Schema

TRIED = 64  # events that a model learns, and its copy goes on from, before it is trusted
_trusted: set[tuple[str, Schema]] = set()


def model_class(name: str) -> type[BlockClassifier] | type[Expert]:
    """Import a class that is to be the model; ConfigError for one that keeps no contract of ours."""
    kind = load_class("--model", name)
    if not issubclass(kind, BlockClassifier | Expert):
        raise ConfigError(
            f"--model {name}: neither a BlockClassifier nor an Expert; a daemon keeps all of a model's state by "
            "snapshot and restore, so it must be a subclass of one of them (docs/extending.md)"
        )
    return kind


def build_own(name: str, schema: Schema | None, seed: int, settings: dict[str, Any]) -> BlockClassifier:
    """Make a model of a user's class; an expert's is that expert alone."""
    kind = model_class(name)

    def build() -> BlockClassifier:
        if issubclass(kind, Expert):
            return _alone(f"--model {name}", kind, schema, seed, settings)
        found: BlockClassifier = make(f"--model {name}", kind, {"schema": schema, "seed": seed, **settings})
        return found

    _try(f"--model {name}", build, schema)
    return build()


def with_experts(names: Sequence[str]) -> type[DriftMoE]:
    """Return the default mixture with experts of a user's own beside its own."""
    kinds = {name: load_class("--expert", name) for name in names}
    for name, kind in kinds.items():
        if not issubclass(kind, Expert):
            raise ConfigError(f"--expert {name}: no Expert; make it a subclass of stream_moe.experts.base.Expert")

    class WithExperts(DriftMoE):
        def make_experts(self, schema: Schema) -> list[Expert]:
            found = super().make_experts(schema)
            for name, kind in kinds.items():
                what = f"--expert {name}"
                _try(what, lambda w=what, k=kind: _alone(w, k, schema, self.seed, {}), schema)  # type: ignore[misc]
                found.append(make(what, partial(kind, schema), {"seed": self.seed}))
            return found

        def learning_parameters(self) -> dict[str, Any]:
            return super().learning_parameters() | {"experts": list(kinds)}

        def to_kept(self) -> dict[str, Any]:
            raise ConfigError("a model with experts of your own cannot be made again from a file")

    return WithExperts


def _alone(what: str, kind: type[Expert], schema: Schema | None, seed: int, settings: dict[str, Any]) -> SingleExpert:
    def expert(schema: Schema, **parameters: Any) -> Expert:
        found: Expert = make(what, partial(cast("Callable[..., Expert]", kind), schema), parameters)
        return found

    expert.kind = getattr(kind, "kind", kind.__name__)  # type: ignore[attr-defined]
    seeded = {"seed": seed} if "seed" in inspect.signature(kind).parameters else {}
    return SingleExpert(schema, expert=expert, parameters=settings | seeded or None)


def _try(what: str, build: Callable[[], BlockClassifier], schema: Schema | None) -> None:
    """Raise ConfigError unless a copy from a snapshot learns on as the model does, and one block as two."""
    if schema is None or (what, schema) in _trusted:
        return
    x, y = _events(schema)
    half = TRIED // 2
    try:
        one, other, whole = build(), build(), build()
        one.step(x[:half], y[:half])
        arrays, plain = one.snapshot()
        other.restore(({name: array.copy() for name, array in arrays.items()}, json.loads(json.dumps(plain))))
        on, again, both = one.step(x[half:], y[half:]), other.step(x[half:], y[half:]), whole.step(x, y)[half:]
        digests = {model.digest for model in (one, other, whole)}
        one.learning_parameters()
    except StreamMoeError:
        raise
    except Exception as error:
        raise in_one_line(what, error) from error
    if not np.array_equal(on, again):
        raise ConfigError(f"{what}: restored from its snapshot it predicts otherwise; snapshot() lacks some state")
    if not np.array_equal(on, both) or len(digests) != 1:
        raise ConfigError(f"{what}: its state depends on how events are cut into blocks; each must count alone")
    if on.shape != (half, schema.n_classes) or not np.allclose(on.sum(1), 1, atol=1e-6):
        raise ConfigError(f"{what}: step gave no probabilities: [n, {schema.n_classes}], each row of sum 1, are due")
    _trusted.add((what, schema))


def _events(schema: Schema) -> tuple[Float32, np.ndarray[Any, np.dtype[np.int32]]]:
    """Draw events of a schema, some values missing."""
    drawn = np.random.default_rng(1)
    x = drawn.normal(size=(TRIED, schema.n_features)).astype(np.float32)
    for j, n in enumerate(schema.n_categories.tolist()):
        if n:
            x[:, j] = drawn.integers(0, n, TRIED)
    x[drawn.random(x.shape) < 0.1] = np.nan
    return x, drawn.integers(0, schema.n_classes, TRIED).astype(np.int32)
