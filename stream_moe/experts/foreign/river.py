"""Any river classifier as an expert."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from river import base

from stream_moe.errors import CheckpointError, ConfigError, DataError, one_line
from stream_moe.experts.base import Expert
from stream_moe.rows import as_event
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Schema


class RiverExpert(Expert):
    """Adapter: events go to a river classifier as dicts under the schema's names, one by one in Python.

    That costs what the model costs, 10 to 1,000 times a compiled expert; there is no way around it.

    Parameters
    ----------
    schema
        Features and classes.
    model
        The classifier; a fresh clone of it is used.

    Notes
    -----
    A missing value is left out of the dict. A model whose `learn_one` takes a weight gets the event's weight;
    any other learns an event of positive weight once. Classes it does not name get probability 0; while it
    names none, all are equal. A tie goes to the class that the model's own `predict_one` would name. A model for
    two classes only gets them as False and True, which is what river's have them as.

    A river model is a web of Python objects that only pickle could store, and checkpoints hold no pickle. So
    `snapshot` gives a fingerprint: a running hash over parameters, events learnt and the predictions of each before,
    enough to compare two runs, and `restore` raises CheckpointError unless this model has learnt just the same.

    Examples
    --------
    >>> import numpy as np
    >>> from river import naive_bayes
    >>> from stream_moe.types import Schema
    >>> expert = RiverExpert(Schema.numeric(1, ["low", "high"]), naive_bayes.GaussianNB())
    >>> x, y, proba = np.float32([[1], [9], [2], [8], [1]]), np.int32([0, 1, 0, 1, 0]), np.empty((5, 2))
    >>> expert.step(x, y, np.ones(5), proba)
    >>> proba[4].round(3).tolist()
    [1.0, 0.0]
    """

    def __init__(self, schema: Schema, model: base.Classifier) -> None:
        self.kind = f"river-{type(model).__name__}"
        self._model = model.clone()
        parameters = inspect.signature(self._model.learn_one).parameters
        self._weight_name = next((name for name in ("w", "sample_weight") if name in parameters), None)
        self._fingerprint = hashlib.sha256(f"{self.kind}{model._get_params()!r}".encode()).hexdigest()
        self.grow(schema)

    @property
    def memory_bytes(self) -> int:
        return int(self._model._raw_memory_usage)

    def step(self, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
        """Test then train, row by row; see `stream_moe.experts.base.Expert.step`."""
        for t, row in enumerate(x):
            event = as_event(self._schema, row)
            label = int(y[t])
            learn = label >= 0 and weight[t] > 0
            try:
                self._predict(event, proba[t])
                if learn:
                    extra = {self._weight_name: float(weight[t])} if self._weight_name else {}
                    self._model.learn_one(event, self._labels[label], **extra)
            except Exception as error:  # many a river model takes only numbers, or no missing value
                what = f"{type(error).__name__}: {one_line(error)}"
                raise DataError(
                    f"{self.kind}: it does not take such an event ({what}): {str(event)[:200]}"
                ) from error
            if learn:
                learnt = f"{self._fingerprint}{sorted(event.items())}{label}{weight[t]!r}{proba[t].tolist()}"
                self._fingerprint = hashlib.sha256(learnt.encode()).hexdigest()

    def _predict(self, event: dict[str, Any], proba: Float64) -> None:
        found = self._model.predict_proba_one(event)
        proba[:] = [found.get(label, 0.0) for label in self._labels]
        total = proba.sum()
        if not 0 < total < math.inf:
            proba[:] = 1 / len(proba)
            return
        proba /= total
        named = self._index.get(max(found, key=found.__getitem__))
        if named is not None and proba.argmax() < named:
            proba[named] = np.nextafter(proba[named], 2.0)

    def grow(self, schema: Schema) -> None:
        self._schema, self.n_classes = schema, schema.n_classes
        self._labels: Sequence[Hashable] = schema.classes
        if not self._model._multiclass:
            if self.n_classes > 2:
                raise ConfigError(f"{self.kind}: it tells two classes apart; the stream has {self.n_classes}")
            self._labels = [False, True][: self.n_classes]
        self._index = {label: index for index, label in enumerate(self._labels)}

    def snapshot(self) -> Snapshot:
        return {}, {"fingerprint": self._fingerprint}

    def restore(self, snapshot: Snapshot) -> None:
        if snapshot[1].get("fingerprint") != self._fingerprint:
            raise CheckpointError(
                f"{self.kind}: a river model cannot be stored without pickle; replay its events instead, or use "
                "an expert of stream_moe"
            )
