"""What builds a model for each key, for all partitions of a process."""

from __future__ import annotations

from collections.abc import Callable

from stream_moe.models.contract import BlockClassifier
from stream_moe.models.keyed.learner import KeyedLearner
from stream_moe.models.keyed.memory import KeyMemory
from stream_moe.models.keyed.settings import KeySettings
from stream_moe.types import Schema


def for_each_key(
    make: Callable[[Schema], BlockClassifier], settings: KeySettings
) -> Callable[[Schema], BlockClassifier]:
    """Return what builds learners that have a model for each key; together they keep to one bound of memory.

    Parameters
    ----------
    make
        Builds a key's model.
    settings
        The bounds.

    Examples
    --------
    >>> from stream_moe.models.catalogue import build_model
    >>> make = for_each_key(lambda schema: build_model("naive-bayes", schema), KeySettings(max_keys=10))
    >>> make(Schema.numeric(1, ["no", "yes"])).keys.known
    0
    """
    memory = KeyMemory(settings.memory_bytes)
    return lambda schema: KeyedLearner(schema, make=make, max_keys=settings.max_keys, memory=memory)
