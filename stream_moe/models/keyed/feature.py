"""The values of a feature as keys, for streams whose records have none of their own."""

from __future__ import annotations

import math

from stream_moe.errors import ConfigError
from stream_moe.types import SHARED, Float32, Schema


def check_feature(schema: Schema, feature: str) -> None:
    """Raise ConfigError where the schema has no such feature."""
    if feature not in schema.feature_index:
        names = ", ".join(f.name for f in schema.features[:20])
        raise ConfigError(f"key: the stream has no feature {feature!r}; choose one of {names}")


def feature_keys(schema: Schema, feature: str, x: Float32) -> list[bytes]:
    """Return the key of each row of x [n, d]: a category by its name, a number by its digits, b"" where missing.

    Examples
    --------
    >>> import numpy as np
    >>> feature_keys(Schema.numeric(1, ["no", "yes"]), "x0", np.float32([[2.5], [1], [np.nan]]))
    [b'2.5', b'1', b'']
    """
    column = schema.feature_index[feature]
    categories, values = schema.features[column].categories, x[:, column].tolist()
    if categories is not None:
        return [SHARED if math.isnan(v) else categories[int(v)].encode() for v in values]
    return [SHARED if math.isnan(v) else f"{v:.9g}".encode() for v in values]
