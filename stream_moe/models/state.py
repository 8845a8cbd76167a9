"""A model as a file, and its state as bytes, for whoever keeps it elsewhere than the daemon.

The bytes are those of a checkpoint (`stream_moe.checkpoints.format`): safetensors and JSON under a sha256. No object
is ever unpickled, and bytes of an older version are read.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_moe.checkpoints.checkpoint import Checkpoint, Owner, understood
from stream_moe.checkpoints.format import MAGIC
from stream_moe.errors import CheckpointError, ConfigError, DataError
from stream_moe.ranges import number
from stream_moe.runtime.files import whole_file
from stream_moe.snapshot import Snapshot, pack, unpack
from stream_moe.types import Schema

if TYPE_CHECKING:
    from stream_moe.models.kept import KeptModel


def state_to_bytes(learner: KeptModel) -> bytes:
    """Write down all that a learner has learnt.

    Parameters
    ----------
    learner
        Of any kind that ships with stream_moe, that has a schema or has learnt one.

    Returns
    -------
    bytes
        What `restore_state` takes; it names the learner's class, schema and parameters.

    Examples
    --------
    >>> import numpy as np
    >>> from stream_moe import Schema, build_model, restore_state, state_to_bytes
    >>> schema = Schema.numeric(1, ["low", "high"])
    >>> learner, other = (build_model("knn", schema) for _ in range(2))
    >>> learner.learn_many(np.float32([[0], [1]]), np.int32([0, 1]))
    >>> restore_state(other, state_to_bytes(learner))
    >>> other.digest == learner.digest
    True
    """
    try:
        kept = _kept(learner)
    except (ConfigError, DataError):  # the state alone: whoever reads it has a learner that fits
        kept = {}
    return _to_bytes(learner, kept)


def restore_state(learner: KeptModel, content: bytes, name: str = "state") -> None:
    """Go on from what `state_to_bytes` gave.

    Parameters
    ----------
    learner
        One made with the same parameters, and with the same schema or none; what it had learnt is forgotten.
    content
        The bytes.
    name
        Of the state, for messages.

    Raises
    ------
    CheckpointError
        If the bytes are damaged or of a newer version, or of a learner of another class, schema or parameter. The
        learner is then of no more use.

    Examples
    --------
    See `state_to_bytes`.
    """
    found = Checkpoint.from_bytes(content, name)
    with understood(name):
        kept = found.plain.get("model", {})
        if "vocabulary" in kept:
            learner.take_vocabulary(Schema.from_dict(found.plain["schema"]), kept["vocabulary"])
    _owner(learner).check(found.owner, name, way_out="build the learner as it was, or begin anew without this state")
    with understood(name):
        learner.restore(unpack((found.arrays, found.plain))["learner"])
        if "next_ticket" in kept:
            learner.go_on_from_ticket(number("model", kept, "next_ticket"))


def write_model(learner: KeptModel, path: Path) -> None:
    """Write a model whole or not at all; ConfigError or CheckpointError says why it could not be."""
    content = _to_bytes(learner, _kept(learner))
    try:
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise CheckpointError(f"{path}: not written: {error.strerror}") from error


def read_model(path: Path, expected: type[KeptModel]) -> KeptModel:
    """Make the model of a file again; CheckpointError says what the file is where it is no such model's."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    if content[: len(MAGIC)] != MAGIC:
        raise CheckpointError(f"{path}: {_what_it_is(content)}, and no model file as model.save(PATH) writes it")
    found = Checkpoint.from_bytes(content, str(path))
    kept = found.plain.get("model", {})
    if "join" in found.plain:
        raise CheckpointError(
            f"{path}: a daemon's checkpoint, at offset {found.offset:,} of {found.owner.source or 'its log'}, and no "
            "model file; `stream-moe run` goes on from it, and `stream-moe inspect` shows it"
        )
    if "vocabulary" not in kept:
        raise CheckpointError(
            f"{path}: a state as bytes, which does not say how to make its model; make one and give both to "
            "stream_moe.restore_state"
        )
    with understood(str(path)):
        model = _class_of(kept["name"], expected, path).from_kept(Schema.from_dict(found.plain["schema"]), kept)
        model.restore(unpack((found.arrays, found.plain))["learner"])
        model.go_on_from_ticket(number("model", kept, "next_ticket"))
    return model


def model_class(name: str) -> type[KeptModel] | None:
    """Return the model of this name on the public face of stream_moe; None = there is none.

    Examples
    --------
    >>> model_class("SingleExpert").__name__, model_class("Schema")
    ('SingleExpert', None)
    """
    face = import_module("stream_moe")  # the models import this module
    found = getattr(face, name) if name in face.__all__ else None
    return found if hasattr(found, "from_kept") else None


def _class_of(name: str, expected: type[KeptModel], path: Path) -> type[KeptModel]:
    if name == expected.__name__:
        return expected
    known = model_class(name)
    if known is None:
        raise CheckpointError(f"{path}: holds a {name}, which is no model of stream_moe; use {name}.load")
    if not issubclass(known, expected):
        raise CheckpointError(
            f"{path}: holds a {name}, and this is {expected.__name__}.load; use {name}.load, or BlockClassifier.load "
            "for any model"
        )
    return known


def _what_it_is(content: bytes) -> str:
    """Say in a few words what a file seems to be."""
    if not content:
        return "an empty file"
    for begins, kind in {
        b"PK": "a zip archive", b"\x80": "a pickle, which is never opened", b"\x1f\x8b": "a gzip archive"
    }.items():  # fmt: skip
        if content.startswith(begins):
            return kind
    try:
        content[:1000].decode()
    except UnicodeDecodeError as error:
        if error.start < 990:
            return f"a file that begins with {content[:8]!r}"
    return f"a text file that begins with {content[:20].decode(errors='replace')!r}"


def _kept(learner: KeptModel) -> dict[str, Any]:
    """Return what makes a model anew, as JSON values; ConfigError where a parameter cannot be one."""
    kept = learner.to_kept()
    parameters = {k: v.item() if isinstance(v, np.generic) else v for k, v in kept["parameters"].items()}
    kept["parameters"] = parameters
    try:
        same = json.loads(json.dumps(parameters)) == parameters
    except TypeError:
        same = False
    if not same:
        raise ConfigError(
            f"{kept['name']}: of its parameters {ascii(parameters)[:200]} some cannot be written to a file; keep the "
            "state alone with stream_moe.state_to_bytes"
        )
    return kept


def _to_bytes(learner: KeptModel, kept: dict[str, Any]) -> bytes:
    parts: dict[str, Snapshot] = {"learner": learner.snapshot()}
    if kept:
        parts |= {"schema": ({}, learner.schema.to_dict()), "model": ({}, kept)}
    arrays, plain = pack(parts)
    return Checkpoint(0, _owner(learner), plain, arrays).to_bytes()


def _owner(learner: KeptModel) -> Owner:
    return Owner.of("", type(learner).__name__, learner.schema, learner.learning_parameters())
