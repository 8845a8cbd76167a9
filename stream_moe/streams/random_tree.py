"""Random trees as concepts: Domingos and Hulten, Mining High-Speed Data Streams, KDD 2000, section 4.1.

A tree is drawn node by node; its leaves have classes at random, and its events are uniform.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.runtime.compiled import compiled
from stream_moe.streams.java_random import next_double, next_int, seeded
from stream_moe.types import Float64, Int32

MAX_NODES = 100_000


@dataclass(frozen=True)
class RandomTree:
    """A tree as arrays: attribute int32 [nodes] (-1 at a leaf), threshold float64 [nodes], children int32 [nodes, k].

    Attributes count the nominal ones first. A leaf's class is its first child.
    """

    attribute: Int32
    threshold: Float64
    children: Int32


@lru_cache(maxsize=16)  # drawn when a stream is opened, so that a mistake shows there, and again at its start
def draw_tree(
    seed: int,
    *,
    nominal: int,
    numeric: int,
    values: int,
    classes: int,
    depth: int,
    first_leaf: int,
    leaf_share: float,
) -> RandomTree:
    """Draw a tree: at `depth` every node is a leaf, from `first_leaf` on a share `leaf_share` of them.

    ConfigError if the tree has more than 100,000 nodes.
    """
    random = seeded(seed)
    attributes: list[int] = []
    thresholds: list[float] = []
    children: list[list[int]] = []

    def grow(level: int, candidates: list[int], low: list[float], high: list[float]) -> int:
        node = len(attributes)
        if node == MAX_NODES:
            raise ConfigError(f"tree: more than {MAX_NODES:,} nodes; give a smaller depth or fewer values")
        attributes.append(-1)
        thresholds.append(0.0)
        children.append([])
        none_left = not candidates and not numeric
        if level >= depth or none_left or (level >= first_leaf and leaf_share >= 1.0 - next_double(random, 0)):
            children[node].append(int(next_int(random, 0, classes)))
            return node
        chosen = int(next_int(random, 0, len(candidates) + numeric))
        if chosen < len(candidates):
            attributes[node] = candidates[chosen]
            others = candidates[:chosen] + candidates[chosen + 1 :]
            children[node] += [grow(level + 1, others, low, high) for _ in range(values)]
        else:
            split = chosen - len(candidates)
            at = (high[split] - low[split]) * float(next_double(random, 0)) + low[split]
            attributes[node], thresholds[node] = nominal + split, at
            below, above = high.copy(), low.copy()
            below[split] = above[split] = at
            children[node] += [grow(level + 1, candidates, low, below), grow(level + 1, candidates, above, high)]
        return node

    grow(0, list(range(nominal)), [0.0] * numeric, [1.0] * numeric)
    links = np.zeros((len(children), max(2, values)), np.int32)
    for node, several in enumerate(children):
        links[node, : len(several)] = several
    return RandomTree(np.array(attributes, np.int32), np.array(thresholds), links)


@compiled
def fill_tree(random, nominal, values, attribute, threshold, children, x, y):  # type: ignore[no-untyped-def]
    """Fill x float32 [n, d], its first `nominal` columns with categories of 0..values-1, and y int32 [n]."""
    event = np.empty(x.shape[1])  # the class is that of the values before they are rounded to float32
    for t in range(len(y)):
        for j in range(x.shape[1]):
            event[j] = next_int(random, 0, values) if j < nominal else next_double(random, 0)
            x[t, j] = event[j]
        node = 0
        while attribute[node] >= 0:
            value = event[attribute[node]]
            way = int(value) if attribute[node] < nominal else int(value >= threshold[node])
            node = children[node, way]
        y[t] = children[node, 0]
