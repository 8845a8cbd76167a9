"""The kinds of experts by name, and where their classes lie; loads none of them, so that `--help` stays fast."""

from __future__ import annotations

import logging
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream_moe.experts.base import Expert

KINDS = {
    "adaptive-tree": "trees.adaptive:AdaptiveTree",
    "hoeffding-tree": "trees.hoeffding:HoeffdingTree",
    "prototypes": "neighbours.prototypes:MovingPrototypes",
    "history-softmax": "linear.history:HistorySoftmax",
    "target-encoding": "linear.target_encoding:TargetEncoding",
    "knn": "neighbours.knn:WindowKNN",
    "naive-bayes": "naive_bayes:NaiveBayes",
    "softmax": "linear.softmax:SoftmaxRegression",
    "averaged-softmax": "linear.averaged:AveragedSoftmax",
    "no-change": "no_change:NoChange",
}
FORMER = {"value-rates": "target-encoding"}  # names that kinds had before
_log = logging.getLogger(__name__)


def expert_class(kind: str) -> Callable[..., Expert]:
    """Load the class of a kind.

    Examples
    --------
    >>> expert_class("knn").kind
    'knn'
    """
    module, _, name = KINDS[kind].partition(":")
    return getattr(import_module(f"stream_moe.experts.{module}"), name)


@cache  # one notice of a name is enough
def current_kind(kind: str) -> str:
    """Return the present name of a kind that may have had another; of one that has, log so.

    Examples
    --------
    >>> current_kind("knn"), current_kind("value-rates")
    ('knn', 'target-encoding')
    """
    if kind in FORMER:
        _log.warning("%s is now called %s; use the new name", kind, FORMER[kind])
    return FORMER.get(kind, kind)
