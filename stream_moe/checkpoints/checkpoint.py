"""A checkpoint: everything that is needed to go on from a position, and whose it is.

The bytes are `stream_moe.checkpoints.format`'s; no object is ever unpickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import MsgspecError

from stream_moe.checkpoints.format import VERSION, decode, encode
from stream_moe.checkpoints.former import former
from stream_moe.errors import CheckpointError, ConfigError
from stream_moe.ports import CheckpointStore
from stream_moe.snapshot import Arrays
from stream_moe.types import Schema

MOST_NAMED = 8  # differences of one kind


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
    model, schema
        What the fingerprint is of, beside the parameters; of an owner that `of` made.
    """

    fingerprint: str
    source: str = ""
    parameters: dict[str, str] = field(default_factory=dict)
    former: dict[str, dict[str, str]] = field(default_factory=dict, compare=False, repr=False)
    model: str = field(default="", compare=False, repr=False)
    schema: Schema | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, source: str, model: str, schema: Schema, parameters: Mapping[str, object]) -> Owner:
        """Name the owner of what a model learns from a source."""
        text = {name: repr(value) for name, value in parameters.items()}
        then = {_fingerprint(name, schema, old): old for name, old in former(model, text)}
        return cls(_fingerprint(model, schema, text), source, text, then, model, schema)

    @property
    def note(self) -> dict[str, str]:
        """What the fingerprint was made from, to stand beside a committed position."""
        return {"model": self.model, **self._with_schema(self.parameters)}

    def _with_schema(self, parameters: dict[str, str]) -> dict[str, str]:
        return {"schema": self.schema.digest[:8], **parameters} if self.schema is not None else parameters

    def check_position(self, fingerprint: str | None, note: Mapping[str, str] | None) -> None:
        """Raise CheckpointError where another model committed the position of our group.

        Of one that a former version committed nothing is known (None).
        """
        if fingerprint is not None:
            then, former = dict(note or {}), {key: self._with_schema(old) for key, old in self.former.items()}
            replace(self, parameters=self._with_schema(self.parameters), former=former).check(
                Owner(fingerprint, self.source, {key: value for key, value in then.items() if key != "model"}),
                f"the committed position of {self.source}",
                "run with the old ones, or choose another --group, --state-dir and output topics",
                model=then.get("model", ""),
            )

    def check(
        self,
        found: Owner,
        name: str,
        way_out: str = "run with the old ones, or choose another --state-dir and --group",
        *,
        model: str = "",
        schema: Schema | None = None,
    ) -> None:
        """Raise CheckpointError, which names each difference, when checkpoint `name`, of owner `found`, is not ours.

        `model` and `schema` are those of the checkpoint, as far as it says.
        """
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
            if model and self.model and model != self.model:  # whose parameters are its own
                other = [f"the model was {model}, is {self.model}"]
            if schema is not None and self.schema is not None:
                other += differences(schema, self.schema)
            differs = f" ({'; '.join(other)})" if then and other else ""
            raise CheckpointError(f"{name}: made by another model, schema or setting{differs}; {way_out}")


def differences(then: Schema, now: Schema) -> list[str]:
    """Name what two schemas do not have in common.

    >>> from stream_moe.types import Feature
    >>> differences(Schema.numeric(2, ["no", "yes"]), Schema((Feature("x0", ("a",)),), ("no", "yes", "maybe")))
    ["feature 'x1' is gone", "feature 'x0' was a number, is a category", "class 'maybe' is new"]
    """
    found = _in_one("feature", list(then.feature_index), list(now.feature_index))
    for name in then.feature_index.keys() & now.feature_index.keys():
        a, b = then.features[then.feature_index[name]], now.features[now.feature_index[name]]
        if a.is_nominal != b.is_nominal:
            kinds = ["a category" if each.is_nominal else "a number" for each in (a, b)]
            found.append(f"feature {name!r} was {kinds[0]}, is {kinds[1]}")
        elif a.categories != b.categories:
            found += _in_one(f"category of {name!r}:", list(a.categories or ()), list(b.categories or ()))
        elif a.base != b.base:
            found.append(f"feature {name!r} was kept from {a.base:.16g}, is from {b.base:.16g}")
    return found + _in_one("class", list(then.classes), list(now.classes))


def _in_one(what: str, then: list[str], now: list[str]) -> list[str]:
    found = [f"{what} {name[:60]!r} is gone" for name in then if name not in now]
    found += [f"{what} {name[:60]!r} is new" for name in now if name not in then]
    if not found and then != now:
        return [f"another order of {'classes' if what == 'class' else what.removesuffix(':') + 's'}"]
    left = len(found) - MOST_NAMED
    return found[:MOST_NAMED] + ([f"and {left:,} more like that"] if left > 0 else [])


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
    def model(self) -> str:
        """Name of the model, as the command line has it; empty where the file does not say."""
        found = self.plain.get("model")
        return str(found.get("name", "")) if isinstance(found, dict) else ""

    @property
    def first_schema(self) -> Schema | None:
        """The schema with which its log began; None where the file does not say."""
        try:
            found = self.plain["origin"]["schema"] if "origin" in self.plain else self.plain["schema"]
            return Schema.from_dict(found)
        except (ConfigError, LookupError, TypeError):
            return None

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
