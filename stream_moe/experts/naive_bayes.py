"""Naive Bayes as an expert: the leaf of a Hoeffding tree, without the tree."""

from __future__ import annotations

import math

from stream_moe.experts.state import MOST_CATEGORIES
from stream_moe.experts.trees.hoeffding import HoeffdingTree
from stream_moe.types import Feature, Schema


class NaiveBayes(HoeffdingTree):
    """Naive Bayes with Gaussian numeric and Laplace-smoothed nominal features.

    Parameters
    ----------
    schema
        Features and classes.

    Notes
    -----
    It never forgets; a missing value is no evidence. It is a Hoeffding tree of one leaf that never tries to
    split. Of a nominal feature it counts the first 4,096 categories; the others are taken for missing.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_moe.types import Schema
    >>> rng = np.random.default_rng(1)
    >>> y = rng.integers(0, 2, 1000).astype(np.int32)
    >>> x = rng.normal(y[:, None], 1, (1000, 3)).astype(np.float32)
    >>> expert, proba = NaiveBayes(Schema.numeric(3, ["no", "yes"])), np.empty((1000, 2))
    >>> expert.step(x, y, np.ones(1000), proba)
    >>> float((proba.argmax(1) == y).mean())  # learning included; knowing the means: 0.807
    0.781
    """

    kind = "naive-bayes"

    def __init__(self, schema: Schema) -> None:
        super().__init__(_narrowed(schema), grace_period=math.inf, leaf_prediction="naive-bayes", max_nodes=1)

    def grow(self, schema: Schema) -> None:
        """As `Expert.grow`."""
        super().grow(_narrowed(schema))


def _narrowed(schema: Schema) -> Schema:
    """Return the schema with the first of the categories."""
    if not (schema.n_categories > MOST_CATEGORIES).any():
        return schema
    features = (Feature(f.name, f.categories and f.categories[:MOST_CATEGORIES]) for f in schema.features)
    return Schema(tuple(features), schema.classes)
