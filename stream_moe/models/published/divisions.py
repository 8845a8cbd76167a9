"""How the experts of a two-stage mixture divide the events: by cluster ("data"), or by class ("task").

Of n events, C classes and E experts, k of them under the router. p [E, n, C] is what the experts predict, NaN where
one is not active.
"""

from __future__ import annotations

import numpy as np

from stream_moe.errors import ConfigError
from stream_moe.models.published.clusters import Clusters, require_sklearn
from stream_moe.models.published.one_against_rest import (
    CLASS,
    one_class_schema,
    one_hot,
    own_labels,
    voted,
    who_is_right,
)
from stream_moe.router.published.routing import multi_hot
from stream_moe.types import Bool, Float32, Float64, Int32, Int64, Schema

MOST_BURN_IN = 100_000  # they are kept, and each k is a fit to all of them


class ByCluster:
    """An expert for each cluster of the burn-in; the expert of highest weight predicts."""

    def __init__(self, burn_in: int, first_half: int, most: int) -> None:
        if not (2 * most <= burn_in <= min(first_half, MOST_BURN_IN)):
            raise ConfigError(
                f"burn_in {burn_in} must lie between 2 n_experts ({2 * most}) and first_half ({first_half}), "
                f"and not above {MOST_BURN_IN}"
            )
        require_sklearn()  # an error now, not at the burn-in's end
        self.burn_in, self.most = burn_in, most

    def n_experts(self, n_classes: int) -> int:
        """E."""
        return self.most

    def n_routed(self, n_experts: int, clusters: Clusters | None) -> int:
        """k."""
        return 1 if clusters is None else len(clusters.bias)

    def expert_schema(self, schema: Schema) -> Schema:
        """What an expert sees of the schema."""
        return schema

    def assigned(self, x: Float32, n_experts: int, clusters: Clusters | None) -> tuple[Float32, Bool | None]:
        """Weights float32 [n, E] without a router, and who is active, bool [E, n]; None = everyone."""
        cluster = np.zeros(len(x), np.int64) if clusters is None else clusters.assign(x)
        active = np.arange(n_experts)[:, None] == cluster
        return np.ascontiguousarray(active.T, np.float32), active

    def labels(self, y: Int32, n_experts: int) -> Int32:
        """Each expert's own labels int32 [E, n], read-only."""
        return np.broadcast_to(y, (n_experts, len(y)))

    def right(self, p: Float64, y: Int32) -> Float32:
        """Who was right, float32 [n, E]; NaN where an expert was not active."""
        right = np.where(np.isnan(p[..., 0]), np.nan, p.argmax(2) == y)
        return np.ascontiguousarray(right.T, np.float32)

    def mask(self, p: Float64, y: Int32) -> Float32:
        """The router's target float32 [n, k], from p of its k experts."""
        return multi_hot(p, y)[1]

    def predicted(self, p: Float64, weights: Float32) -> Float64:
        """The mixture's prediction [n, C]."""
        chosen: Float64 = p[weights.argmax(1), np.arange(len(weights))]
        return chosen

    def routed(self, weights: Float32, proba: Float64) -> Int64:
        """The expert that each event counts for, int64 [n]."""
        return weights.argmax(1)


class ByClass:
    """An expert for each class, one against the rest; all vote from the first event on. Methods as of `ByCluster`."""

    burn_in = 0

    def n_experts(self, n_classes: int) -> int:
        return n_classes

    def n_routed(self, n_experts: int, clusters: Clusters | None) -> int:
        return n_experts

    def expert_schema(self, schema: Schema) -> Schema:
        return one_class_schema(schema)

    def assigned(self, x: Float32, n_experts: int, clusters: Clusters | None) -> tuple[Float32, Bool | None]:
        return np.full((len(x), n_experts), 1 / n_experts, np.float32), None

    def labels(self, y: Int32, n_experts: int) -> Int32:
        return own_labels(y, n_experts)

    def right(self, p: Float64, y: Int32) -> Float32:
        return who_is_right(p[..., CLASS].T, y)

    def mask(self, p: Float64, y: Int32) -> Float32:
        return one_hot(y, len(p)).astype(np.float32)

    def predicted(self, p: Float64, weights: Float32) -> Float64:
        return voted(weights, p[..., CLASS].T)

    def routed(self, weights: Float32, proba: Float64) -> Int64:
        return proba.argmax(1)
