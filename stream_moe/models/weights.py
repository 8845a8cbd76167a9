"""How much events count in learning: by themselves, and by their class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stream_moe.errors import ConfigError, DataError
from stream_moe.types import Float64
from stream_moe.values import name_of

LARGEST_WEIGHT = 1e6  # of an event; sums of what is beyond lose the others


def checked_weights(given: Mapping[Any, float] | None) -> dict[str, float] | None:
    """Return weights of classes by name; ConfigError where one is no number from 0 to 1,000,000.

    Examples
    --------
    >>> checked_weights({True: 10, "no": 0.5}), checked_weights({})
    ({'true': 10.0, 'no': 0.5}, None)
    """
    for label, weight in (given or {}).items():
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= LARGEST_WEIGHT:
            raise ConfigError(
                f"class weight: {name_of(label)}={weight}: a weight is a number from 0 to {LARGEST_WEIGHT:,.0f}"
            )
    return {name_of(label): float(weight) for label, weight in (given or {}).items()} or None


def checked_importance(w: Any, n: int) -> Float64:
    """Return weights of events as float64 [n]; DataError where they do not fit."""
    found = np.broadcast_to(np.asarray(w, np.float64), n) if np.ndim(w) == 0 else np.array(w, np.float64)
    if found.shape != (n,) or not ((found >= 0) & (found <= LARGEST_WEIGHT)).all():
        raise DataError(f"w: {str(w)[:60]} for {n} events; give each a number from 0 to {LARGEST_WEIGHT:,.0f}")
    return found
