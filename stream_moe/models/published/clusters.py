"""Clusters of a burn-in part: whitened by PCA, found by k-means or a Gaussian mixture, k by silhouette.

scikit-learn finds them once; which cluster an event belongs to is then a compiled rule, the same bits in any block.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.ranges import ANY, Range, check, named
from stream_moe.runtime.compiled import compiled
from stream_moe.snapshot import Arrays
from stream_moe.types import Float32, Float64, Int32, Int64

VARIANCE = 0.95  # share of the variance that the kept components explain
LOOKED_AT = 2000  # events of which the silhouette, whose cost is quadratic, is taken
_PREFIX = "clusters."
FARTHEST = 1e6  # standard deviations: a wild value must not become infinite when it is squared


class Clusters(NamedTuple):
    """The rule: encode, project, and take the component of highest log-density (k-means: the nearest mean).

    D columns after each nominal feature became one per category, p components, k clusters.
    """

    n_categories: Int32  # [d] as at the burn-in's end; later features and categories say nothing
    mean: Float64  # [D]
    scale: Float64  # [D]
    projection: Float64  # [D, p] components over their standard deviations
    shift: Float64  # [p] the projected centre
    means: Float64  # [k, p]
    precision: Float64  # [k, p, p] Cholesky factor of each precision matrix; k-means: the identity
    bias: Float64  # [k] log weight + log determinant; k-means: 0

    def assign(self, x: Float32) -> Int64:
        """Cluster int64 [n] of each event float32 [n, d]."""
        out = np.empty(len(x), np.int64)
        nearest(self, x, out)
        return out

    def arrays(self) -> Arrays:
        """What a checkpoint keeps; `restored` reads it."""
        return {f"{_PREFIX}{name}": array.copy() for name, array in self._asdict().items()}

    @classmethod
    def restored(cls, arrays: Arrays, n_features: int, most: int) -> Clusters | None:
        """Undo `arrays`; None where there were no clusters yet, CheckpointError where sizes do not fit together."""
        if f"{_PREFIX}bias" not in arrays:
            return None
        found = cls(*(np.ascontiguousarray(arrays[f"{_PREFIX}{name}"]) for name in cls._fields))
        ranges = named(
            cls, n_categories=Range(0, 2**20), mean=ANY, scale=ANY, projection=ANY, shift=ANY, means=ANY,
            precision=ANY, bias=ANY,
        )  # fmt: skip
        for name, allowed in ranges.items():
            check("clusters", name, getattr(found, name), allowed)
        (d,), (k,), (p,) = (found.n_categories.shape, found.bias.shape, found.shift.shape)
        columns = int(np.maximum(found.n_categories, 1).sum(dtype=np.int64))
        shapes = [(d,), (columns,), (columns,), (columns, p), (p,), (k, p), (k, p, p), (k,)]
        types = [np.dtype(np.int32), *[np.dtype(np.float64)] * 7]
        if (
            [a.shape for a in found] != shapes
            or [a.dtype for a in found] != types
            or d > n_features
            or not 1 <= k <= most
        ):
            raise CheckpointError(f"clusters: {k} of {d} features, whose arrays do not fit together or this schema")
        return found


@compiled
def nearest(c: Clusters, x: Float32, out: Int64) -> None:
    components = c.shift.shape[0]
    z = np.empty(components)
    for t in range(x.shape[0]):
        z[:] = -c.shift
        column = 0
        for j in range(c.n_categories.shape[0]):
            width = max(c.n_categories[j], 1)
            if not np.isnan(x[t, j]):  # a missing value is at the mean
                for v in range(width):
                    value = float(x[t, j])
                    if c.n_categories[j] > 0:
                        value = 1.0 if x[t, j] == v else 0.0
                    value = (value - c.mean[column + v]) / c.scale[column + v]
                    value = min(max(value, -FARTHEST), FARTHEST)
                    for i in range(components):
                        z[i] += value * c.projection[column + v, i]
            column += width
        out[t], highest = 0, -np.inf
        for k in range(c.bias.shape[0]):
            square = 0.0
            for i in range(components):
                dot = 0.0
                for m in range(components):
                    dot += (z[m] - c.means[k, m]) * c.precision[k, m, i]
                square += dot * dot
            score = c.bias[k] - 0.5 * square
            if score > highest:
                out[t], highest = k, score


def find_clusters(
    x: Float32, n_categories: Int32, *, kind: Literal["kmeans", "gmm"] = "kmeans", most: int = 12, seed: int = 1
) -> Clusters:
    """Find 1 to `most` clusters in events.

    Parameters
    ----------
    x
        float32 [n, d], nominal features as category index, NaN = missing.
    n_categories
        int32 [d], 0 for a numeric feature.
    kind
        "kmeans", or "gmm" with full covariances.
    most
        Largest k that is tried. k is the one of highest mean silhouette (Rousseeuw 1987, J. Comput. Appl. Math.
        20); 1 where there are not three different events.
    seed
        Of the starts.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> blobs = rng.normal(np.repeat([[0, 0], [9, 0], [0, 9]], 50, axis=0)).astype(np.float32)
    >>> found = find_clusters(blobs, np.zeros(2, np.int32), most=6)
    >>> len(found.bias), sorted(np.bincount(found.assign(blobs)).tolist())
    (3, [50, 50, 50])
    """
    sklearn = require_sklearn()
    from threadpoolctl import threadpool_limits

    columns = one_column_per_category(x, n_categories)
    filled = np.where(np.isnan(columns).all(0), 0.0, columns)
    mean, scale = np.nanmean(filled, 0), np.nanstd(filled, 0)
    scale[scale == 0] = 1.0
    standard = np.nan_to_num((filled - mean) / scale).clip(-FARTHEST, FARTHEST)
    # Threads would split sums by their number, and give other bits.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a try has not converged: the silhouette judges it
        centred = standard - standard.mean(0)
        if not centred.any():
            return Clusters(
                n_categories.copy(), mean, scale, np.zeros((len(mean), 1)), np.zeros(1), np.zeros((1, 1)),
                np.ones((1, 1, 1)), np.zeros(1),
            )  # fmt: skip
        pca = sklearn["PCA"](n_components=VARIANCE, svd_solver="full", whiten=True).fit(standard)
        projection = pca.components_.T / np.sqrt(pca.explained_variance_)
        shift = pca.mean_ @ projection
        z = standard @ projection - shift
        means, precision, bias = _best(z, kind, most, seed, sklearn)
    arrays = (mean, scale, projection, shift, means, precision, bias)
    return Clusters(n_categories.copy(), *(np.ascontiguousarray(a, float) for a in arrays))


def _best(z: Float64, kind: str, most: int, seed: int, sklearn: dict[str, Any]) -> tuple[Float64, Float64, Float64]:
    """Means, precisions and biases of the k with the highest silhouette."""
    p = z.shape[1]
    best = (z.mean(0, keepdims=True), np.eye(p)[None], np.zeros(1))
    highest = -np.inf
    for k in range(2, min(most, len(np.unique(z, axis=0)) - 1) + 1):
        if kind == "kmeans":
            model = sklearn["KMeans"](k, n_init=3, random_state=seed).fit(z)
            found = (model.cluster_centers_, np.tile(np.eye(p), (k, 1, 1)), np.zeros(k))
        else:
            model = sklearn["GaussianMixture"](k, reg_covar=1e-3, random_state=seed).fit(z)
            chol = model.precisions_cholesky_
            found = (model.means_, chol, np.log(model.weights_) + np.log(np.einsum("kii->ki", chol)).sum(1))
        labels = model.predict(z)
        if len(np.unique(labels)) < 2:
            continue
        score = sklearn["silhouette_score"](z, labels, sample_size=min(len(z), LOOKED_AT), random_state=seed)
        if score > highest:
            best, highest = found, score
    return best


def one_column_per_category(x: Float32, n_categories: Int32) -> Float64:
    """float64 [n, D]: a nominal feature as one column of 0 and 1 for each category; NaN stays."""
    columns = []
    for j, n in enumerate(n_categories.tolist()):
        values = x[:, j].astype(float)
        wide = np.where(np.isnan(values)[:, None], np.nan, values[:, None] == np.arange(n))
        columns.append(wide if n else values[:, None])
    return np.concatenate(columns, 1)


def require_sklearn() -> dict[str, Any]:
    """Return what is needed of scikit-learn by name; ConfigError where it is not installed."""
    try:
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA
        from sklearn.metrics import silhouette_score
        from sklearn.mixture import GaussianMixture
    except ImportError as error:
        raise ConfigError(
            f"driftmoe-two-stage: needs scikit-learn, which is not here ({error}); "
            "pip install 'stream-moe[two-stage]'"
        ) from None
    return {kind.__name__: kind for kind in (KMeans, PCA, silhouette_score, GaussianMixture)}
