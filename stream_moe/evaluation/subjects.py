"""What an audit takes apart: any model as blocks in, predictions out, in the order of calls that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.rows import as_event
from stream_moe.runtime import own
from stream_moe.types import UNLABELLED, Float32, Float64, Int32, Schema


class Subject(Protocol):
    """Test then train over a block: x float32 [n, d], y int32 [n] (-1 = predict only) to probabilities [n, C]."""

    def step(self, x: Float32, y: Int32) -> Float64: ...


class OneByOne:
    """A model of single events as a subject: it is asked about each event, then told the label.

    The model has `learn_one(x, y)` and `predict_proba_one(x)` or `predict_one(x)`, with x a dict by feature name (a
    missing value has no key) and y a class name, as river's classifiers. Of `asks` answers to an event the last one
    counts. A class that is answered counts with probability 1; no answer counts as all classes alike.
    """

    def __init__(self, model: Any, schema: Schema, asks: int = 1) -> None:
        self._model, self._schema, self._asks = model, schema, asks
        self._by_class = not hasattr(model, "predict_proba_one")

    def step(self, x: Float32, y: Int32) -> Float64:
        proba = np.empty((len(x), self._schema.n_classes))
        for t, row in enumerate(x):
            for _ in range(self._asks):
                self._predict(as_event(self._schema, row), proba[t])  # a dict of its own, so that none is remembered
            if y[t] >= 0:
                self._model.learn_one(as_event(self._schema, row), self._schema.classes[y[t]])
        return proba

    def _predict(self, event: dict[str, Any], proba: Float64) -> None:
        if self._by_class:
            answer = self._model.predict_one(event)
            found = {} if answer is None else {answer: 1.0}
        else:
            found = self._model.predict_proba_one(event) or {}
        proba[:] = [found.get(name, 0.0) for name in self._schema.classes]
        total = proba.sum()
        proba[:] = proba / total if 0 < total < math.inf else 1 / len(proba)


class TrainThenTest:
    """Any subject in the wrong order: each event is learnt, and only then asked about."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def step(self, x: Float32, y: Int32) -> Float64:
        labels = np.full(2 * len(y), UNLABELLED, np.int32)
        labels[::2] = y
        return self._subject.step(np.repeat(x, 2, axis=0), labels)[1::2]


class Guarded:
    """A user's model: what goes wrong in it is reported in one line."""

    def __init__(self, subject: Subject, name: str) -> None:
        self._subject, self._name = subject, name

    def step(self, x: Float32, y: Int32) -> Float64:
        try:
            proba = np.asarray(self._subject.step(x, y), np.float64)
        except Exception as error:
            raise own.in_one_line(self._name, error) from error
        if proba.ndim != 2 or len(proba) != len(y):
            raise ConfigError(
                f"{self._name}: step gave shape {proba.shape} for {len(y)} events; give float64 [n, classes]"
            )
        return proba


def load_class(name: str, folder: Path) -> Callable[..., Any]:
    """Import a user's `package.module:Class`, which runs the module's code.

    The module is looked for in the folder if it is not installed; that stays on the path, as the class may import
    more. ConfigError if the class cannot be imported, or has not the methods of a model.
    """
    kind = own.load_class("--class", name, folder)
    one_by_one = hasattr(kind, "learn_one") and (hasattr(kind, "predict_one") or hasattr(kind, "predict_proba_one"))
    if not (one_by_one or hasattr(kind, "step")):
        raise ConfigError(
            f"--class {name}: not a classifier; it needs learn_one(x, y) and predict_one(x) or predict_proba_one(x), "
            "or step(x, y) of blocks"
        )
    return kind


def make_user_subject(name: str, kind: Callable[..., Any], schema: Schema, seed: int, asks: int = 1) -> Subject:
    """Make a new one of a user's class; its constructor gets `schema` and `seed` where it has such parameters."""
    model = own.make(name, kind, {"schema": schema, "seed": seed})
    return Guarded(model if hasattr(model, "step") else OneByOne(model, schema, asks), name)
