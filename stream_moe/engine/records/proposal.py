"""Which fields of some records look like id, label, time and features: a proposal, with its reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from stream_moe.engine.fields import UnusableError, shown
from stream_moe.engine.records.learning import LEAST_RECORDS
from stream_moe.engine.records.mapping import TOP, USUAL_ID, FieldMapping, found, leaves, milliseconds_of
from stream_moe.errors import ConfigError
from stream_moe.values import is_missing, name_of

ENVELOPES = ("payload.after", "after")  # of Debezium, with and without its schema
LABELS = ("label", "target", "class", "y", "fraud", "churn", "outcome", "default", "spam")
TIMES = ("time", "timestamp", "ts", "datetime", "date", "created", "updated")
EARLIEST, LATEST = 315_532_800_000, 4_102_444_800_000  # 1980 and 2100: what lies outside is no time of an event
MOST_CLASSES = 20  # that a label looks like it has
MOST_SHARED = 0.5  # of the labels' values, from which on a field holds the ids of events


@dataclass(slots=True)
class Proposal:
    """What the records of a topic look like.

    Attributes
    ----------
    mapping
        Of the events' topic.
    labels
        Of the labels' topic; None without one.
    reasons
        Why, a line each.
    """

    mapping: FieldMapping
    labels: FieldMapping | None = None
    reasons: list[str] = field(default_factory=list)


def propose(
    records: Sequence[Mapping[str, Any]],
    labels: Sequence[Mapping[str, Any]] | None,
    given: FieldMapping,
    given_labels: FieldMapping | None = None,
) -> Proposal:
    """Propose a mapping.

    Parameters
    ----------
    records, labels
        Of the events' topic, and of the labels' where they have one.
    given, given_labels
        What is known already: it is kept.

    Raises
    ------
    ConfigError
        If no field looks like the label, or like the id that a label of another topic needs.

    Examples
    --------
    >>> orders = [{"order_id": f"o{i}", "ts": 1.7e9 + i, "amount": i % 7, "fraud": i % 5 == 0} for i in range(50)]
    >>> propose(orders, None, FieldMapping()).mapping
    FieldMapping(id='order_id', label='fraud', time='ts', features=(), drop=(), envelope='')
    """
    proposal = Proposal(given)
    if is_native(records) and given == FieldMapping() and not labels:
        proposal.reasons.append("the records have the form {id, x, y}: no field has to be named")
        return proposal
    _find_envelope(proposal, records)
    columns = _columns(records, proposal.mapping.envelope)
    theirs = {} if labels is None else _columns(labels, "")
    proposal.labels = given_labels
    _find_time(proposal, columns, None if labels is None else theirs)
    if labels is not None:
        _find_labels(proposal, columns, theirs)
    elif proposal.mapping.label is None:
        _find_label(proposal, columns)
    if proposal.mapping.id is None:
        names = [name for name in columns if _is_id(name) and _are_different(columns[name])]
        if names:
            _take(proposal, "id", names[0], "its name, and no value comes twice")
    _drop_identifiers(proposal, columns)
    return proposal


def is_native(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether most records have the form ``{"id", "x", "y"}``."""
    return sum(isinstance(record.get("x"), list | Mapping) for record in records) * 2 > len(records)


def _find_envelope(proposal: Proposal, records: Sequence[Mapping[str, Any]]) -> None:
    if proposal.mapping.envelope or proposal.mapping.features:
        return
    for path in ENVELOPES:
        if sum(isinstance(found(record, path), Mapping) for record in records) * 2 > len(records):
            proposal.mapping = replace(proposal.mapping, envelope=path)
            proposal.reasons.append(f"envelope {path}: most records have an object there")
            return
    events = [record for record in records if isinstance(record.get("data"), Mapping) and "specversion" in record]
    if len(events) * 2 > len(records):
        own = {name: f"{TOP}{name}" for name in ("id", "time") if all(name in record for record in events)}
        kept: dict[str, Any] = {name: path for name, path in own.items() if getattr(proposal.mapping, name) is None}
        proposal.mapping = replace(proposal.mapping, envelope="data", **kept)
        proposal.reasons.append("envelope data: the records are CloudEvents")


def _columns(records: Sequence[Mapping[str, Any]], envelope: str) -> dict[str, list[Any]]:
    """Return the values of each member below the envelope that has any, in the order of the first records."""
    columns: dict[str, list[Any]] = {}
    for record in records:
        root = found(record, envelope) if envelope else record
        for name, value in leaves(root) if isinstance(root, Mapping) else ():
            if not is_missing(value):
                columns.setdefault(name, []).append(value)
    return columns


def _free(proposal: Proposal, columns: Mapping[str, list[Any]]) -> Iterator[str]:
    mapping = proposal.mapping
    taken = {mapping.id, mapping.label, mapping.time, *mapping.features}
    return (name for name in columns if name not in taken and not mapping.drops(name))


def _find_time(proposal: Proposal, columns: Mapping[str, list[Any]], labels: Mapping[str, list[Any]] | None) -> None:
    """Find the time of the events, and of the labels where they have a topic: of both, or of none.

    How long an event waits for its label is measured between the two, so they must be times of one clock.
    """
    own, theirs = proposal.mapping.time, proposal.labels.time if proposal.labels is not None else None
    own = own or next((name for name in _free(proposal, columns) if _is_time(name, columns[name])), None)
    if labels is not None:
        theirs = theirs or next((name for name in labels if _is_time(name, labels[name])), None)
        if (own is None) != (theirs is None):
            other = "labels" if theirs is None else "events"
            why = f"not taken, as the {other} have no such field, and both must be of one clock"
            proposal.reasons.append(f"time {own or theirs}: {why}; the records' timestamps count")
            if own is not None and proposal.mapping.time is None:  # no feature either: none of it comes again
                proposal.mapping = replace(proposal.mapping, drop=(*proposal.mapping.drop, own))
            return
        if theirs is not None:
            proposal.labels = replace(proposal.labels or FieldMapping(), time=theirs)
            proposal.reasons.append(f"labels' time {theirs}: its name, and each value is a moment")
    if own is not None and proposal.mapping.time is None:
        _take(proposal, "time", own, "its name, and each value is a moment")


def _is_time(name: str, values: list[Any]) -> bool:
    words = _words(name)
    return bool(set(words) & set(TIMES) or words[-1] == "at") and _are_moments(values)


def _are_moments(values: list[Any]) -> bool:
    return all((at := milliseconds_of(value)) is not None and EARLIEST <= at < LATEST for value in values)


def _find_label(proposal: Proposal, columns: Mapping[str, list[Any]]) -> None:
    few = {name: n for name in _free(proposal, columns) if 1 < (n := _distinct(columns[name])) <= MOST_CLASSES}
    for wanted in LABELS:
        for name, n in few.items():
            if wanted in _words(name):
                _take(proposal, "label", name, f"its name, and it has {n} values")
                return
    listed = ", ".join(f"{shown(name)} ({n})" for name, n in list(few.items())[:8]) or "none has 2 to 20 values"
    raise ConfigError(
        f"schema: no field of the records is called as a label is; name it with --label-field, or its topic with "
        f"--labels; fields with few values: {listed}"
    )


def _find_labels(proposal: Proposal, columns: Mapping[str, list[Any]], theirs: Mapping[str, list[Any]]) -> None:
    """Find in both topics the fields that hold the same ids, and what is left of the labels' as the label."""
    mapping = proposal.labels or FieldMapping()
    own = [proposal.mapping.id] if proposal.mapping.id is not None else list(_free(proposal, columns))
    pairs = [
        (shared, -a, -b, mine, other)
        for a, mine in enumerate(own)
        for b, other in enumerate([mapping.id] if mapping.id is not None else theirs)
        if (shared := _shared(columns.get(mine, []), theirs.get(other, []))) > MOST_SHARED
    ]
    if not pairs and (proposal.mapping.id is None or mapping.id is None):
        raise ConfigError(
            "schema: no field of the labels has values of a field of the events; name the ids with --id-field and "
            f"--labels-id-field; the labels have {', '.join(map(shown, list(theirs)[:8])) or 'no field'}"
        )
    if pairs:
        share, _, _, mine, other = max(pairs)
        proposal.mapping, mapping = replace(proposal.mapping, id=mine), replace(mapping, id=other)
        proposal.reasons.append(f"id {mine}, labels' id {other}: {share:.0%} of the labels' values are ids of events")
    if mapping.label is None:
        left = [name for name in theirs if name not in (mapping.id, mapping.time)]
        few = [name for name in left if _distinct(theirs[name]) <= MOST_CLASSES and not _are_moments(theirs[name])]
        named = [name for name in few if set(_words(name)) & set(LABELS)] or few
        if not named:
            raise ConfigError(
                "schema: no field of the labels' topic looks like a label; name it with --labels-label-field; it has "
                f"{', '.join(map(shown, list(theirs)[:8]))}"
            )
        mapping = replace(mapping, label=named[0])
        proposal.reasons.append(f"labels' label {named[0]}: it has {_distinct(theirs[named[0]])} values")
    proposal.labels = mapping


def _shared(mine: list[Any], theirs: list[Any]) -> float:
    """Return the share of their values that are among mine; 0 where mine come twice, as an id does not."""
    if not theirs or not _are_different(mine):
        return 0.0
    known = {name_of(value) for value in mine if isinstance(value, str | int)}
    return sum(name_of(value) in known for value in theirs if isinstance(value, str | int)) / len(theirs)


def _drop_identifiers(proposal: Proposal, columns: Mapping[str, list[Any]]) -> None:
    """Leave out texts of which each record has one of its own."""
    for name in list(_free(proposal, columns)):
        values = columns[name]
        text = all(isinstance(value, str) and milliseconds_of(value) is None for value in values)
        if text and len(values) >= LEAST_RECORDS and _are_different(values) and name not in proposal.mapping.own:
            proposal.mapping = replace(proposal.mapping, drop=(*proposal.mapping.drop, name))
            proposal.reasons.append(f"drop {name}: each record has a text of its own there, as {shown(values[0])}")


def _take(proposal: Proposal, part: str, name: str, why: str) -> None:
    changed: dict[str, Any] = {part: name}
    proposal.mapping = replace(proposal.mapping, **changed)
    proposal.reasons.append(f"{part} {name}: {why}")


def _words(name: str) -> list[str]:
    """Take a name apart: isFraud, is_fraud and order.is-fraud all have the word fraud."""
    spaced = "".join(f" {c.lower()}" if c.isupper() else c if c.isalnum() else " " for c in name)
    return spaced.split() or [name]


def _is_id(name: str) -> bool:
    return _words(name)[-1] in ("id", "uuid", "guid", "key") or name == USUAL_ID


def _distinct(values: list[Any]) -> int:
    return len({name_of(value) for value in values if isinstance(value, str | int | float)})


def _are_different(values: list[Any]) -> bool:
    counts = Counter(name_of(value) for value in values if isinstance(value, str | int))
    return len(counts) == len(values) > 0


def readable(values: Sequence[bytes | None], read: Any) -> tuple[list[Mapping[str, Any]], str]:
    """Return the records that can be read, and why the first one that cannot is not.

    >>> from stream_moe.engine.codec import object_of
    >>> readable([b'{"a": 1}', b"{"], object_of)[0]
    [{'a': 1}]
    """
    records, why = list[Mapping[str, Any]](), ""
    for value in values:
        try:
            if value is not None:
                records.append(read(value))
        except UnusableError as error:
            why = why or f"{error.args[0]}: {error.args[1]}"
    return records, why
