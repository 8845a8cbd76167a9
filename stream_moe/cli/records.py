"""Which fields of a record are what, and what becomes of what is new: the table [records]."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Interval
from typer import Option

from stream_moe.cli.flags import Settings
from stream_moe.cli.settings import choice, split_names
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError

if TYPE_CHECKING:
    from stream_moe.engine.records.mapping import FieldMapping

UNKNOWN = ("grow", "ignore", "dead-letter")
LABELS = "labels_"  # begins the names of the fields of the labels' topic


class Records(Settings):
    """Of the topics that a daemon reads."""

    schema: Annotated[
        str | None,
        Option(
            "--schema",
            help="Schema: JSON file, or name of a benchmark; else the producer's, from the log, or learnt from it.",
        ),
    ] = None
    schema_records: Annotated[
        int,
        Interval(ge=1, le=1_000_000),
        Option(help="From how many first records of a partition a schema is learnt, where there is none."),
    ] = 100
    unknown: Annotated[
        str | None,
        Option(
            metavar="grow|ignore|dead-letter",
            help="What becomes of a new feature, category or class.  [default: grow where the schema is learnt from "
            "the log, else ignore]",
        ),
    ] = None
    id_field: Annotated[
        str | None, Option(metavar="PATH", help="Field of the id; of JSON in any shape.  [default: id, or the key]")
    ] = None
    label_field: Annotated[str | None, Option(metavar="PATH", help="Field of the label.")] = None
    time_field: Annotated[
        str | None, Option(metavar="PATH", help="Field of the event's time.  [default: the record's timestamp]")
    ] = None
    features: Annotated[str, Option(metavar="A,B", help="Fields that are features.  [default: all others]")] = ""
    drop: Annotated[str, Option(metavar="A,B", help="Fields that are no features.")] = ""
    envelope: Annotated[
        str, Option(metavar="PATH", help="Object that holds these fields, as payload.after; $.NAME is outside of it.")
    ] = ""
    labels_id_field: Annotated[
        str | None, Option(metavar="PATH", help="With --labels: field of the id there.  [default: id, or the key]")
    ] = None
    labels_label_field: Annotated[
        str | None, Option(metavar="PATH", help="With --labels: field of the label there.  [default: y]")
    ] = None
    labels_time_field: Annotated[
        str | None, Option(metavar="PATH", help="With --labels: field of the label's time there.")
    ] = None

    def mapping(self) -> FieldMapping | None:
        """Return which fields of an event are what; None where nothing says so: the form {"id", "x", "y"}."""
        from stream_moe.engine.records.mapping import FieldMapping

        given = FieldMapping(
            self.id_field,
            self.label_field,
            self.time_field,
            tuple(split_names(self.features)),
            tuple(split_names(self.drop)),
            self.envelope,
        )
        return None if given == FieldMapping() else given

    def labels(self) -> FieldMapping | None:
        """As `mapping`, of the topic of the labels."""
        from stream_moe.engine.records.mapping import FieldMapping

        given = FieldMapping(self.labels_id_field, self.labels_label_field, self.labels_time_field)
        if given == FieldMapping():
            return None
        return FieldMapping(given.id, given.label or "y", given.time)

    def engine_settings(self, *, keys: bool, labels: bool) -> dict[str, Any]:
        """Return what the engine takes, where each key has a model, and labels a topic; ConfigError if none of it."""
        unknown = None if self.unknown is None else choice("--unknown", self.unknown, UNKNOWN)
        if keys and unknown == "grow":
            raise ConfigError(
                "--unknown grow: a model for each key has the schema that it was given, and does not grow; "
                "leave it out, or have a model for each partition"
            )
        apart = self.labels()
        if apart is not None and not labels:
            raise ConfigError(
                f"--labels-label-field {apart.label!r}: no topic of labels; name it with --labels, or the label of "
                "the events with --label-field"
            )
        if labels and (self.time_field is None) != (self.labels_time_field is None):
            timed, other = ("events", "labels") if self.labels_time_field is None else ("labels", "events")
            say(
                f"stream-moe: the {timed} have a time of their own, and the {other} the records' timestamps: where "
                "these are of two clocks, events expire before their labels come; name a time of both, or of neither",
                err=True,
            )
        return {
            "mapping": self.mapping(), "labels": apart, "unknown": unknown, "schema_records": self.schema_records
        }  # fmt: skip
