"""A checkpoint: everything that is needed to go on from a position, and whose it is.

The bytes are `stream_moe.checkpoints.format`'s; no object is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from msgspec import MsgspecError

from stream_moe.checkpoints.format import VERSION, decode, encode
from stream_moe.checkpoints.former import former
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.ports import CheckpointStore
from stream_moe.snapshot import Arrays
from stream_moe.types import Schema


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose state it is: only an engine with the same owner may go on from it.

    Attributes
    ----------
    fingerprint
        Hex sha256 of model, schema and parameters.
    source
        ``group/topic/partition``; empty where a file of version 1 does not say.
    parameters
        The learner's parameters as text, so that a person can be told which one differs.
    former
        Fingerprints under which older programs kept the state of the same model, with their parameters.
    """

    fingerprint: str
    source: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    former: dict[str, dict[str, str]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, source: str, model: str, schema: Schema, parameters: Mapping[str, object]) -> Owner:
        """Name the owner of what a model learns from a source."""
        text = {name: repr(value) for name, value in parameters.items()}
        then = {_fingerprint(name, schema, old): old for name, old in former(model, text)}
        return cls(_fingerprint(model, schema, text), source, text, then)

    def check(
        self,
        found: Owner,
        name: str,
        way_out: str = "run with the old ones, or choose another --state-dir and --group",
    ) -> None:
        """Raise CheckpointError when checkpoint `name`, of owner `found`, is not ours."""
        if found.source and self.source and found.source != self.source:
            raise CheckpointError(
                f"{name}: made for {found.source} (group/topic/partition), and this is {self.source}; "
                "choose another --state-dir, or put the file back where it belongs"
            )
        if found.fingerprint not in {self.fingerprint, *self.former}:
            then = found.parameters
            known = [self.parameters, *self.former.values()]  # as the program that wrote it calls them
            now = max(known, key=lambda ours: len(ours.items() & then.items()))
            other = [f"{k} was {then.get(k)}, is {now.get(k)}" for k in {**then, **now} if then.get(k) != now.get(k)]
            differs = f" ({'; '.join(other)})" if then and other else ""
            raise CheckpointError(f"{name}: made by another model, schema or setting{differs}; {way_out}")


def _fingerprint(model: str, schema: Schema, parameters: Mapping[str, str]) -> str:
    listed = ", ".join(f"({name!r}, {value})" for name, value in sorted(parameters.items()))
    settings = json.dumps({"model": model, "schema": schema.digest}) + f"[{listed}]"
    return hashlib.sha256(settings.encode()).hexdigest()


@dataclass(slots=True)
class Checkpoint:
    """Everything that is needed to go on from `offset`.

    Attributes
    ----------
    offset
        Position of the next record to read.
    owner
        Whose state it is.
    plain
        JSON values; `arrays` the named arrays.
    version
        Of the format that it was read from.
    name
        Under which it was read.
    """

    offset: int
    owner: Owner
    plain: dict[str, Any]
    arrays: Arrays
    version: int = VERSION
    name: str = ""

    @property
    def files(self) -> list[str]:
        """Names of the files that hold the models of its keys; none where the partition has one model."""
        with understood("checkpoint"):
            keys = self.plain.get("learner", {}).get("keys") or {}
            return [str(name) for name in keys.get("segments", ())]

    def check_files(self, store: CheckpointStore, name: str) -> None:
        """Raise CheckpointError where the store lacks one of them; `name` is the checkpoint's."""
        missing = sorted(set(self.files) - set(store.names())) if self.files else []
        if missing:
            raise CheckpointError(
                f"{name}: names models in {missing[0]}{f' and {len(missing) - 1} more' if missing[1:] else ''}, "
                "and the store has no such file: it lost files, or this process sees another one than the process "
                "that wrote the checkpoint; point --state-dir of all members at the same place, or restore it from a "
                "backup"
            )

    def to_bytes(self) -> bytes:
        owner = self.owner
        state = {"offset": self.offset, "fingerprint": owner.fingerprint, "source": owner.source}
        return encode(state | {"parameters": owner.parameters, "plain": self.plain}, self.arrays)

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "checkpoint") -> Checkpoint:
        """Read a checkpoint of any version; CheckpointError says why it is bad."""
        version, (state, arrays) = decode(content, name)
        with understood(name):
            owner = Owner(_as(str, state["fingerprint"]), _as(str, state["source"]), _as(dict, state["parameters"]))
            return cls(_as(int, state["offset"]), owner, _as(dict, state["plain"]), arrays, version, name)


def _as(kind: type, value: Any) -> Any:
    if type(value) is not kind or (isinstance(value, int) and not 0 <= value < 2**63):
        raise ValueError(f"{ascii(value)[:40]} stands where {kind.__name__} should")
    return value


@contextlib.contextmanager
def understood(name: str) -> Iterator[None]:
    """Turn what goes wrong while a whole checkpoint is taken apart into a CheckpointError."""
    try:
        yield
    except MemoryError:
        raise CheckpointError(f"{name}: whole, but what it asks for takes more memory than there is") from None
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError, MsgspecError, ConfigError) as error:
        why = f"{type(error).__name__}: {ascii(str(error))[1:120]}"
        raise CheckpointError(f"{name}: whole, but it does not hold what this program keeps there: {why}") from None
