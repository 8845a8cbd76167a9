"""What a tree has learnt, moved to arrays of another layout: a wider one, or with fewer columns counted."""

from __future__ import annotations

import numpy as np

from stream_moe.experts.trees.arrays import (
    HALF_PRECISION,
    HIGH,
    LOG_NORM,
    LOW,
    M2,
    MEAN,
    WEIGHT,
    N,
    TreeArrays,
    TreeLayout,
)
from stream_moe.experts.trees.kernel import HALF_LOG_2PI, ZERO_VARIANCE_PRECISION
from stream_moe.types import Float64, Int64


def carry_over(old: TreeArrays, before: TreeLayout, new: TreeArrays, layout: TreeLayout) -> None:
    """Copy a tree into empty arrays of as many nodes and slots, whose layout may have more columns and classes.

    A column that was counted and is no longer gets the moments of its counts.
    """
    n_classes, d = old.mass.shape[1], len(before.position)
    for name in ("feature", "threshold", "child", "default", "slot", "head", "leaf"):
        getattr(new, name)[...] = getattr(old, name)
    for name in ("mass", "seen", "constant"):
        getattr(new, name)[:, :n_classes] = getattr(old, name)
    new.numeric[:, :, LOW], new.numeric[:, :, HIGH] = np.inf, -np.inf
    had_places = (before.is_nominal | before.is_counted) == 1
    has_places = (layout.is_nominal | layout.is_counted)[:d] == 1
    normal = np.flatnonzero(~had_places)
    new.numeric[:, :n_classes, :, layout.position[normal]] = old.numeric[..., before.position[normal]]
    kept = np.flatnonzero(had_places & has_places)
    source, target = _places(before, before, kept), _places(layout, before, kept)
    new.nominal[:, :, target, :n_classes] = old.nominal[:, :, source]
    for column in np.flatnonzero(had_places & ~has_places):
        counted = _places(before, before, np.array([column]))
        found = moments(before.value[counted], old.nominal[:, WEIGHT, counted])
        new.numeric[:, :n_classes, :, layout.position[column]] = found


def _places(layout: TreeLayout, before: TreeLayout, columns: Int64) -> Int64:
    """Return where the categories or values that those columns had `before` lie in a layout."""
    starts, widths = layout.offset[layout.position[columns]], before.cardinality[before.position[columns]]
    each = [np.arange(start, start + width) for start, width in zip(starts, widths, strict=True)]
    return np.concatenate([np.empty(0, np.int64), *each])


def moments(value: Float64, weight: Float64) -> Float64:
    """Return what a leaf keeps of a numeric column, float64 [S, C, 7], from the weight [S, w, C] of each of w values.

    A value of NaN has no weight.
    """
    seen, value = weight > 0.0, np.nan_to_num(value)[:, None]
    n = weight.sum(1)
    found = np.zeros((*n.shape, 7))
    mean = (weight * value).sum(1) / np.where(n > 0.0, n, 1.0)
    m2 = (weight * (value - mean[:, None]) ** 2).sum(1)
    varies = (n > 1.0) & (m2 > 0.0)
    variance = np.where(varies, m2, 1.0) / np.where(varies, n - 1.0, 1.0)
    found[..., N], found[..., MEAN], found[..., M2] = n, mean, m2
    found[..., LOW] = np.where(seen, value, np.inf).min(1)
    found[..., HIGH] = np.where(seen, value, -np.inf).max(1)
    found[..., HALF_PRECISION] = np.where(varies, 0.5 / variance, np.where(n > 0.0, ZERO_VARIANCE_PRECISION, 0.0))
    found[..., LOG_NORM] = np.where(varies, -HALF_LOG_2PI - 0.5 * np.log(variance), 0.0)
    return found
