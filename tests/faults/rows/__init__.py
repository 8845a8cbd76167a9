"""The rows of the fault table, a module for each kind."""

from __future__ import annotations

from tests.faults.rows import (
    brokers,
    checkpoints,
    cluster,
    groups,
    inputs,
    keys,
    kills,
    labels,
    ops,
    processes,
    two_topics,
)

__all__ = [
    "brokers",
    "checkpoints",
    "cluster",
    "groups",
    "inputs",
    "keys",
    "kills",
    "labels",
    "ops",
    "processes",
    "two_topics",
]
