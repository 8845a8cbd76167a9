"""Logs: one record is one line, whatever was logged, and secrets stay out of it.

A record may have fields, `log.info("message", extra={"fields": {...}})`: words `name=value` behind the message for
people, members of the object in JSON.
"""

from __future__ import annotations

import json as json_format
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

from stream_moe.shown import MASK, printable, without_secrets

OUR_LOGGERS = ("stream_moe", "connectors")
REPEAT_SECONDS = 60.0  # between two records of one kind of the Kafka client
# What the Kafka client says to its programmers, and what that means to whoever runs us.
KAFKA_ALARMS = (
    (
        r"ran for ([\d.]+)s .*blocking the event loop",
        "the Kafka client got no processor for {} s: this process or machine was busy, short of memory or stopped. "
        "Nothing is lost; if it comes again, give it more CPU or memory, or fewer partitions a process",
    ),
    (
        r"Could not execute transactional request for unknown reasons",
        "the broker that keeps our transactions went away in the middle of a request. The block is taken again with "
        "a new writer; if it comes again, look at that broker's log",
    ),
    (
        r"Unexpected error in InitProducerIdResponse: \[Error 50\]",
        "the brokers allow no transaction as long as ours (60 s): raise their transaction.max.timeout.ms to 60000 or "
        "more",
    ),
    (
        r"Unexpected error in InitProducerIdResponse: (.*)",
        "no writer of transactions could be opened: {}. It is tried again; if it comes again, look at the brokers' "
        "logs",
    ),
)

# A name with one of these words holds a secret, unless it is only the place of the secret (`..._file`).
_SECRET_NAME = re.compile(r"passw|passphrase|secret|token|credential|api_?key|private_?key|jaas|authorization")
_PLACE_NAME = re.compile(r"_?(file|filename|path|location)$")


def setup_logging(
    level: str | int = "INFO", *, json: bool = False, secrets: Sequence[str] = (), stream: TextIO | None = None
) -> None:
    """Send logs to stderr, as lines for people or as JSON lines; calling it again replaces the former set-up.

    The level is of our own loggers. Other libraries stay at WARNING: numba, say, writes thousands of lines at DEBUG.
    Secrets are values (passwords) that are replaced by *** wherever they turn up, tracebacks included. A stream is
    where to write instead of stderr, which is whatever `sys.stderr` is at that moment.
    """
    handler = _Handler(stream)
    handler.setFormatter(JsonFormatter(secrets) if json else HumanFormatter(secrets))
    handler.addFilter(_Keep())
    root = logging.getLogger()
    for former in [h for h in root.handlers if isinstance(h, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OUR_LOGGERS:
        logging.getLogger(name).setLevel(level)
    # At DEBUG kafka-python logs whole requests, SASL passwords included.
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.captureWarnings(True)


def settings_line(settings: Mapping[str, Any]) -> str:
    """Render settings in one line, secrets masked, nested ones under dotted names.

    Examples
    --------
    >>> settings_line({"bootstrap": "kafka:9092", "sasl": {"user": "me", "password": "hunter2"}})
    'bootstrap=kafka:9092 sasl.user=me sasl.password=***'
    """
    return " ".join(f"{name}={_plain(value)}" for name, value in masked(settings).items())


def masked(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as one level of names, secrets masked.

    Examples
    --------
    >>> masked({"seed": 1, "sasl": {"user": "me", "password": "hunter2"}})
    {'seed': 1, 'sasl.user': 'me', 'sasl.password': '***'}
    """
    return dict(_flat("", settings))


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, as distinct from handlers that others put on the root logger.

    While the live view is on the terminal, `sys.stderr` is one that writes above it: so that is looked up each time.
    """

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__(stream)
        self._given = stream

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr if self._given is None else self._given
        super().emit(record)


class _Keep(logging.Filter):
    """Drop DEBUG records of kafka-python even where somebody lowered one of its loggers, and its repetitions.

    What it says to its programmers alone is said in words for whoever runs us.

    Without rights on its group, say, the client writes the same line ten times a second for as long as it lives.
    """

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], float] = {}  # one entry a message template, so as many as the client has

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] != "kafka":
            return True
        if record.levelno < logging.INFO:
            return False
        kind = (record.name, record.msg if record.args and isinstance(record.msg, str) else record.levelname)
        last = self._last.get(kind)
        if last is not None and record.created - last < REPEAT_SECONDS:
            return False
        self._last[kind] = record.created
        said = record.getMessage()
        for alarm, ours in KAFKA_ALARMS:
            if (found := re.search(alarm, said)) is not None:
                record.msg, record.args = ours.format(*found.groups()), ()
                break
        return True


class _Formatter(logging.Formatter):
    def __init__(self, secrets: Sequence[str] = ()) -> None:
        super().__init__()
        self._secrets = sorted((s for s in secrets if s), key=len, reverse=True)  # one may contain another

    def _clean(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return without_secrets(text)

    def _traceback(self, record: logging.LogRecord) -> str:
        parts = [self.formatException(record.exc_info)] if record.exc_info else []
        parts += [record.stack_info] if record.stack_info else []
        return self._clean("\n".join(parts))


class HumanFormatter(_Formatter):
    """`2025-01-31 12:00:00.123 INFO    stream_moe.engine: message name=value`; then a traceback, behind bars."""

    def format(self, record: logging.LogRecord) -> str:
        when = _time(record).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        fields = _fields(record)
        message = printable(self._clean(record.getMessage() + (f" {settings_line(fields)}" if fields else "")))
        lines = [f"{when} {record.levelname:<7} {record.name}: {message}"]
        lines += [f"    | {printable(line)}" for line in self._traceback(record).split("\n") if line]
        return "\n".join(lines)


class JsonFormatter(_Formatter):
    """One JSON object per record, plain ASCII."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": _time(record).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": self._clean(record.getMessage()),
        }
        for name, value in masked(_fields(record)).items():
            fields.setdefault(name, self._clean(value) if isinstance(value, str) else value)
        if traceback := self._traceback(record):
            fields["exception"] = traceback
        return json_format.dumps(fields, default=str)


def _fields(record: logging.LogRecord) -> Mapping[str, Any]:
    return getattr(record, "fields", {})


def _time(record: logging.LogRecord) -> datetime:
    return datetime.fromtimestamp(record.created, UTC)


def _flat(name: str, value: Any) -> list[tuple[str, Any]]:
    if name and _SECRET_NAME.search(name.lower()) and not _PLACE_NAME.search(name.lower()):
        return [(name, value if value is None or isinstance(value, bool) else MASK)]
    if isinstance(value, Mapping):
        return [pair for key, item in value.items() for pair in _flat(f"{name}.{key}" if name else str(key), item)]
    if isinstance(value, list | tuple) and any(isinstance(item, Mapping) for item in value):
        return [pair for i, item in enumerate(value) for pair in _flat(f"{name}.{i}", item)]
    return [(name, value)]


def _plain(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = printable(without_secrets(text))
    return json_format.dumps(text, ensure_ascii=False) if not text or re.search(r'[\s"=]', text) else text
