"""How many keys there may be, and what becomes of a record without a usable one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from stream_moe.errors import ConfigError

MAX_KEYS = 250_000  # about 60 MB of index in memory, and 19 MB in each checkpoint
MEMORY_BYTES = 512 << 20
MAX_KEY_BYTES = 1024
NullKey = Literal["shared", "dead-letter"]


@dataclass(frozen=True, slots=True)
class KeySettings:
    """The bounds of the models of keys; all but `memory_bytes` change what is learnt.

    Parameters
    ----------
    null_key
        A record whose key is null or empty goes to a model that all such share, or becomes a dead letter.
    max_key_bytes
        A longer key makes its record a dead letter.
    max_keys
        Keys of a partition that have a model; for one more, the key that was not used for longest is forgotten.
    memory_bytes
        What the models in memory may take, of all partitions of a process together, about; the others wait in the
        checkpoint stores.

    Examples
    --------
    >>> KeySettings(max_keys=0)
    Traceback (most recent call last):
    stream_moe.errors.ConfigError: keys: max_keys 0, max_key_bytes 1024 and memory_bytes 536870912 must be above 0
    """

    null_key: NullKey = "shared"
    max_key_bytes: int = MAX_KEY_BYTES
    max_keys: int = MAX_KEYS
    memory_bytes: int = MEMORY_BYTES

    def __post_init__(self) -> None:
        if min(self.max_keys, self.max_key_bytes, self.memory_bytes) < 1:
            raise ConfigError(
                f"keys: max_keys {self.max_keys}, max_key_bytes {self.max_key_bytes} and memory_bytes "
                f"{self.memory_bytes} must be above 0"
            )
        if self.null_key not in ("shared", "dead-letter"):
            raise ConfigError(f"null key: {self.null_key!r}; choose shared or dead-letter")
