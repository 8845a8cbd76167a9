"""What is predicted where it is no class: a number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from stream_moe.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Target:
    """A number to predict, in place of classes.

    Parameters
    ----------
    name, unit
        What it is called, and what it is measured in.
    low, high
        Bounds, where they are known: no answer lies outside.

    Examples
    --------
    >>> Target("price", "EUR", low=0.0).to_dict()
    {'name': 'price', 'unit': 'EUR', 'low': 0.0}
    """

    name: str = "y"
    unit: str = ""
    low: float | None = None
    high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) not in ("", None)}

    @classmethod
    def from_dict(cls, plain: Any) -> Target:
        """Read what `to_dict` wrote; ConfigError when it is not that."""
        try:
            found = msgspec.convert(plain, cls)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"schema: target: {str(plain)[:60]!r} ({error}); give an object with a 'name'"
            ) from None
        if None not in (found.low, found.high) and not found.low < found.high:  # type: ignore[operator]
            raise ConfigError(f"schema: target: low {found.low:g} is not below high {found.high:g}")
        return found
