"""Experts of one class each: what an expert sees of the labels, when it is right, and how all of them vote."""

from __future__ import annotations

import numpy as np

from stream_moe.types import UNLABELLED, Bool, Float32, Float64, Int32, Schema

REST, CLASS = range(2)  # what such an expert tells apart


def one_class_schema(schema: Schema) -> Schema:
    """The same features, and the two classes of each expert."""
    return Schema(schema.features, ("rest", "class"))


def own_labels(y: Int32, n_classes: int) -> Int32:
    """Each expert's own labels int32 [C, n]: whether the event is of its class; -1 stays.

    Examples
    --------
    >>> own_labels(np.int32([1, 0, -1]), 2).tolist()
    [[0, 1, -1], [1, 0, -1]]
    """
    own = np.where(y < 0, UNLABELLED, np.arange(n_classes)[:, None] == y).astype(np.int32)
    return own


def one_hot(y: Int32, n_classes: int) -> Bool:
    """bool [n, C], all False without a label."""
    return y[:, None] == np.arange(n_classes)


def who_is_right(yes: Float64, y: Int32) -> Float32:
    """float32 [n, C]: 1 where yes [n, C] is above a half and the event is of that class, or neither is so."""
    return ((yes > 0.5) == one_hot(y, yes.shape[1])).astype(np.float32)


def voted(weights: Float32, yes: Float64) -> Float64:
    """Class probabilities [n, C]: weights times what each expert gives its class; weights alone where all give 0.

    Examples
    --------
    >>> weights = np.float32([[0.5, 0.5], [0.25, 0.75]])
    >>> voted(weights, np.array([[0.2, 0.6], [0.0, 0.0]])).round(6).tolist()
    [[0.25, 0.75], [0.25, 0.75]]
    """
    votes = weights * yes
    return shares(np.where(votes.sum(1, keepdims=True) > 0, votes, weights))


def shares(votes: Float32 | Float64) -> Float64:
    """Divide each row by its sum, in double precision."""
    votes = votes.astype(float)
    shared: Float64 = votes / votes.sum(1, keepdims=True)
    return shared
