"""Answers of least cost from any classifier of river's interface."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from river import base

from stream_moe.answers import AnswerRule, Answers
from stream_moe.errors import ConfigError
from stream_moe.values import name_of


class CostSensitiveClassifier(base.Wrapper, base.Classifier):  # type: ignore[misc]
    """A classifier whose answers are those of least expected cost, or follow a threshold; it learns as before.

    The answer is made of what `predict_proba_one` says. Nothing that the classifier learns depends on it, so the rule
    may be changed at any time (`rule`).

    Parameters
    ----------
    classifier
        Any classifier of river's interface that gives probabilities.
    cost
        Costs by (true label, answer); a right answer costs 0 and a wrong one 1 where nothing is said. Or a text, as
        `stream-moe replay --cost` takes it.
    threshold
        A label and the probability from which on it is answered, as {label: P}. Or a text, "CLASS=P".

    Raises
    ------
    ConfigError
        If not exactly one of the two is given, a cost is below 0, or a probability not in 0..1.

    Examples
    --------
    >>> from river import datasets, evaluate, metrics
    >>> from stream_moe import DriftMoE
    >>> model = CostSensitiveClassifier(DriftMoE(seed=1), cost={(True, False): 10})
    >>> evaluate.progressive_val_score(datasets.Phishing(), model, metrics.Recall())
    Recall: 99.27%
    """

    def __init__(
        self,
        classifier: Any,
        cost: Mapping[tuple[Any, Any], float] | str | None = None,
        threshold: Mapping[Any, float] | str | None = None,
    ) -> None:
        self.classifier, self.cost, self.threshold = classifier, cost, threshold
        self.rule = _rule(cost, threshold)
        self._known: tuple[tuple[Hashable, ...], Answers] = ((), Answers())

    @property
    def _wrapped_model(self) -> Any:
        return self.classifier

    @property
    def _multiclass(self) -> bool:
        return bool(self.classifier._multiclass)

    def _answers(self, labels: tuple[Hashable, ...]) -> Answers:
        """Return the rule over the labels that came so far; what it says of others waits for them."""
        if self._known[0] != labels:
            self._known = labels, self.rule.over([name_of(label) for label in labels], partly=True)
        return self._known[1]

    def learn_one(self, x: dict[Any, Any], y: base.typing.ClfTarget, **more: Any) -> None:
        """Learn an event; see the classifier's own."""
        self.classifier.learn_one(x, y, **more)

    def predict_proba_one(self, x: dict[Any, Any], **more: Any) -> dict[base.typing.ClfTarget, float]:
        """Class probabilities, as the classifier gives them."""
        found: dict[base.typing.ClfTarget, float] = self.classifier.predict_proba_one(x, **more)
        return found

    def predict_one(self, x: dict[Any, Any], **more: Any) -> base.typing.ClfTarget | None:
        """Return the label that follows from the probabilities; None before any label came."""
        proba = self.predict_proba_one(x, **more)
        if not proba:
            return None
        labels: tuple[base.typing.ClfTarget, ...] = tuple(proba)
        answer = self._answers(labels).of(np.array([list(proba.values())], np.float64))
        return labels[int(answer[0])]

    def learn_many(self, *arguments: Any, **more: Any) -> None:
        """Learn many events; see the classifier's own."""
        self.classifier.learn_many(*arguments, **more)

    def predict_proba_many(self, *arguments: Any, **more: Any) -> Any:
        """Class probabilities of many events, as the classifier gives them."""
        return self.classifier.predict_proba_many(*arguments, **more)

    def predict_many(self, *arguments: Any, **more: Any) -> Any:
        """Answer many events.

        Returns
        -------
        A Series of labels where the probabilities are a frame, else int32 [n] class indices.
        """
        proba = self.predict_proba_many(*arguments, **more)
        if not hasattr(proba, "columns"):
            return self._answers(tuple(self.classifier.schema.classes)).of(proba)
        import pandas as pd  # type: ignore[import-untyped]  # it is there: the frame is its

        labels = tuple(proba.columns)
        if not labels:
            return pd.Series([None] * len(proba), proba.index)
        answers = self._answers(labels).of(proba.to_numpy(np.float64))
        return pd.Series([labels[each] for each in answers.tolist()], proba.index)


def _rule(cost: Any, threshold: Any) -> AnswerRule:
    if (cost is None) == (threshold is None):
        raise ConfigError("CostSensitiveClassifier: give either cost or threshold")
    if isinstance(cost, str) or isinstance(threshold, str):
        return AnswerRule.read(cost, threshold)
    if cost is not None:
        for pair in cost:
            if not (isinstance(pair, tuple) and len(pair) == 2):
                raise ConfigError(f"cost: {pair!r}: give (true label, answer): cost")
        return AnswerRule.of_costs((truth, answer, value) for (truth, answer), value in cost.items())
    if len(threshold) != 1:
        raise ConfigError(f"threshold: {len(threshold)} labels; give one, as {{label: P}}")
    return AnswerRule.of_threshold(*next(iter(threshold.items())))
