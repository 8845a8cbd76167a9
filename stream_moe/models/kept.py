"""A model's state, file and copies: what every learner has, whatever it predicts."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, cast

from stream_moe.errors import ConfigError
from stream_moe.models.parts import Part
from stream_moe.models.state import read_model, write_model
from stream_moe.models.tickets import Tickets
from stream_moe.rows import RowEncoder
from stream_moe.snapshot import Snapshot, digest_of, pack, unpack
from stream_moe.types import NO_TICKET, Schema


class KeptModel:
    """A learner that can be kept: it names the parts that hold its state, and has its parameters as attributes."""

    _given: dict[str, Any]
    _rows: RowEncoder
    _tickets: Tickets
    _encoder: ClassVar[type[RowEncoder]] = RowEncoder
    _not_learnt: Collection[str] = ()  # parts that are in a snapshot, and not in the digest
    class_weight: Mapping[str, float] | None = None
    """How much an event of a class counts in learning, by name; 1 for those not named."""
    newest_ticket = NO_TICKET
    """The latest ticket under which something is kept."""

    @abstractmethod
    def _start(self, schema: Schema) -> None: ...

    @abstractmethod
    def _parts(self) -> Mapping[str, Part]: ...

    @property
    def schema(self) -> Schema:
        """Features and target as known by now."""
        return self._rows.schema

    # The state.
    def snapshot(self) -> Snapshot:
        """Return the whole state as named arrays and plain JSON values; both are copies."""
        self._require_schema()
        return pack({name: part.snapshot() for name, part in self._parts().items()})

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of a learner of the same parameters; it says which tickets still count."""
        self._require_schema()
        found = unpack(snapshot)
        for name, part in self._parts().items():
            part.restore(found[name])
        self.go_on_from_ticket(self.newest_ticket + 1)

    @property
    def digest(self) -> str:
        """Hex sha256 of what has been learnt: equal if and only if two learners have learnt the same."""
        parts = unpack(self.snapshot())
        return digest_of(pack({name: part for name, part in parts.items() if name not in self._not_learnt}))

    def _require_schema(self) -> None:
        if not self._rows.started:
            raise ConfigError("the model has no schema yet; give schema=Schema(...), or learn one event first")

    # Files. The models' own part is here; `stream_moe.models.state` reads and writes.
    def save(self, path: str | Path) -> None:
        """Write the model to a file, whole or not at all.

        The file holds class, parameters, schema, vocabulary, all that was learnt and what waits for labels, under a
        checksum; never a pickle. Where and how fast a model runs (threads, device, executor) is not in it.

        Parameters
        ----------
        path
            Of the file; one that is there is replaced.

        Raises
        ------
        ConfigError
            If the model cannot be made again from a file: one of another library, or of an expert of your own.
        CheckpointError
            If the disk does not take it.

        Examples
        --------
        >>> import tempfile
        >>> from stream_moe import DriftMoE
        >>> model = DriftMoE(seed=1)
        >>> model.learn_one({"load": 0.9}, True)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/load.model")
        ...     again = DriftMoE.load(f"{folder}/load.model")
        >>> again.predict_one({"load": 0.8}), again.digest == model.digest
        (True, True)
        """
        write_model(self, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the model of a file that `save` wrote.

        `BlockClassifier.load` gives a model of any class.

        Parameters
        ----------
        path
            Of the file.

        Raises
        ------
        CheckpointError
            If the file is no model file, damaged, of a newer program, or holds a model of another class.
        """
        return cast("Self", read_model(Path(path), cls))

    def to_kept(self) -> dict[str, Any]:
        """Return what `from_kept` needs to make this model anew, as JSON values where it can be."""
        kept = {"name": type(self).__name__, "parameters": self.learning_parameters()}
        return kept | {"vocabulary": self._rows.to_dict(), "next_ticket": self._tickets.next}

    @classmethod
    def from_kept(cls, schema: Schema, kept: Mapping[str, Any]) -> Self:
        """Make a model anew from what `to_kept` gave: with its vocabulary, and nothing learnt."""
        given: dict[str, Any] = {"schema": schema if kept["vocabulary"]["given"] else None}
        model = cls(**given, **kept["parameters"])
        model.take_vocabulary(schema, kept["vocabulary"])
        return model

    def take_vocabulary(self, schema: Schema, vocabulary: dict[str, Any]) -> None:
        """Take names and labels as they came to another model of the same schema, where this one has it or none."""
        if not self._rows.started:
            self._rows = self._encoder.from_dict(schema, vocabulary)
            self._start(schema)
        elif self.schema == schema:
            self._rows = self._encoder.from_dict(schema, vocabulary, given=self._given["schema"] is not None)

    def go_on_from_ticket(self, first: int) -> None:
        """Give tickets from this one on."""
        self._tickets = Tickets(first)

    # Copies (river clones, deep-copies and stores its models): parameters, vocabulary and state.
    def _get_params(self) -> dict[str, Any]:
        names = inspect.signature(type(self)).parameters
        return {name: self._given[name] if name in self._given else getattr(self, name) for name in names}

    def learning_parameters(self) -> dict[str, Any]:
        """Return the parameters that change what is learnt, by name: not where and how fast it runs."""
        elsewhere = {"schema", "threads", "device", "executor", "shards"}
        if not self.class_weight:  # of which those who learnt before there was such a thing say nothing
            elsewhere.add("class_weight")
        return {k: v for k, v in self._get_params().items() if k not in elsewhere}

    def __repr__(self) -> str:
        defaults = {name: p.default for name, p in inspect.signature(type(self)).parameters.items()}
        changed = {name: value for name, value in self._get_params().items() if value != defaults[name]}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    def __getstate__(self) -> dict[str, Any]:
        state = self.snapshot() if self._rows.started else None
        kept = {"parameters": self._get_params(), "rows": self._rows, "state": state}
        return kept | {"next_ticket": self._tickets.next}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state["parameters"])  # type: ignore[misc]
        self._rows = state["rows"]
        if state["state"] is not None:
            self._start(self._rows.schema)
            self.restore(state["state"])
        self.go_on_from_ticket(state["next_ticket"])
