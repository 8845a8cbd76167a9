"""How an engine runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stream_moe.answers import MOST_PROBABLE, AnswerRule
from stream_moe.engine.fields import KeyRule
from stream_moe.engine.join import MAX_WAITING, TIMEOUT_SECONDS
from stream_moe.engine.records.growth import Unknown
from stream_moe.engine.records.learning import SCHEMA_RECORDS
from stream_moe.engine.records.mapping import FieldMapping


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How the loop runs; only the limits of waiting and the keys change what is learnt."""

    model: str
    block_rows: int = 4096  # a poll hands out at most so many records
    checkpoint_events: int = 100_000  # a replay after a crash repeats at most about so many
    checkpoint_seconds: float = 60.0
    until_caught_up: bool = False
    emit_weights: bool = True  # the router's weights in every prediction
    max_waiting: int = MAX_WAITING  # events without a label, and labels without an event
    label_seconds: float = TIMEOUT_SECONDS  # of event time; no longer do they wait
    keys: KeyRule | None = None  # where each record key has its own model: which keys there may be
    answers: AnswerRule = MOST_PROBABLE  # how the class that is answered follows from the probabilities
    mapping: FieldMapping | None = None  # which fields of an event are what; None = {"id", "x", "y"}
    labels: FieldMapping | None = None  # the same of the labels' topic
    unknown: Unknown | None = None  # None = grow where the schema is learnt from the log, else ignore
    read: Callable[[bytes], Mapping[str, Any]] | None = None  # records that are not JSON, as dicts; None = all are
    schema_records: int = SCHEMA_RECORDS  # from how many first records a schema is learnt

    def policy(self, learnt: bool) -> Unknown:
        """Return what becomes of what the schema does not have; `learnt`: whether the log's first records gave it."""
        return self.unknown or ("grow" if learnt else "ignore")

    def learning_parameters(self, *, learnt: bool = False) -> dict[str, object]:
        """Return those that change what is learnt, without the usual ones, of which older checkpoints say nothing.

        `learnt` says whether the schema was learnt from the log.
        """
        usual = {"max_waiting": MAX_WAITING, "label_seconds": TIMEOUT_SECONDS}
        changed = {name: getattr(self, name) for name, value in usual.items() if getattr(self, name) != value}
        if self.keys is not None:
            changed |= {"null_key": self.keys.null_key, "max_key_bytes": self.keys.max_key_bytes}
        for name, mapping in (("mapping", self.mapping), ("labels_mapping", self.labels)):
            if mapping is not None:
                changed[name] = mapping.to_dict()
        if (policy := self.policy(learnt)) != "ignore":
            changed["unknown"] = policy
        if learnt:
            changed["schema_records"] = self.schema_records
        return changed
