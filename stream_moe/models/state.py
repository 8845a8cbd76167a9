"""A learner's whole state as bytes, for whoever keeps it elsewhere than the daemon: a stream engine, a database.

The bytes are those of a checkpoint (`stream_moe.checkpoints.format`): safetensors and JSON under a sha256. No object
is ever unpickled, and bytes of an older version are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stream_moe.checkpoints.checkpoint import Checkpoint, Owner, understood
from stream_moe.snapshot import pack, unpack

if TYPE_CHECKING:
    from stream_moe.models.contract import BlockClassifier

# The schema counts by its digest; the others change no result.


def state_to_bytes(learner: BlockClassifier) -> bytes:
    """Write down all that a learner has learnt.

    Parameters
    ----------
    learner
        Of any kind that ships with stream_moe, made with a schema.

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
    arrays, plain = pack({"learner": learner.snapshot()})
    return Checkpoint(0, _owner(learner), plain, arrays).to_bytes()


def restore_state(learner: BlockClassifier, content: bytes, name: str = "state") -> None:
    """Go on from what `state_to_bytes` gave.

    Parameters
    ----------
    learner
        One made with the same schema and parameters; what it had learnt is forgotten.
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
    _owner(learner).check(found.owner, name, way_out="build the learner as it was, or begin anew without this state")
    with understood(name):
        learner.restore(unpack((found.arrays, found.plain))["learner"])


def _owner(learner: BlockClassifier) -> Owner:
    return Owner.of("", type(learner).__name__, learner.schema, learner.learning_parameters())
