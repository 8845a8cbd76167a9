"""Logging: one record one line, no secret in it, and a Kafka client that cannot be made to talk."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from stream_moe.shown import printable
from stream_moe.telemetry.logs import settings_line, setup_logging

CANARY = "canary-5f2a"
FORGED = "ok\n2025-01-01 00:00:00.000 ERROR forged\r\x1b[2J\u2028\x85end"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    names = ["", "kafka", "kafka.conn", "stream_moe", "connectors"]
    levels = {name: logging.getLogger(name).level for name in names}
    handlers = list(logging.getLogger().handlers)
    yield
    logging.captureWarnings(False)
    logging.getLogger().handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def logged(json_lines: bool, secrets: tuple[str, ...] = ()) -> tuple[io.StringIO, logging.Logger]:
    stream = io.StringIO()
    setup_logging("DEBUG", json=json_lines, secrets=secrets, stream=stream)
    return stream, logging.getLogger("stream_moe.test")


def test_human_lines() -> None:
    stream, log = logged(False)
    log.warning("lag is %d records", 7)
    line = stream.getvalue()
    assert line.endswith(" WARNING stream_moe.test: lag is 7 records\n")
    assert line.count("\n") == 1


@pytest.mark.parametrize("json_lines", [False, True])
def test_logged_text_cannot_forge_a_line(json_lines: bool) -> None:
    stream, log = logged(json_lines)
    log.info("payload %s", FORGED)
    assert len(stream.getvalue().splitlines()) == 1  # splitlines knows Unicode's line ends too
    assert "\x1b" not in stream.getvalue()


def test_json_lines() -> None:
    stream, log = logged(True)
    log.info("payload %s", FORGED)
    record = json.loads(stream.getvalue())
    assert record["message"] == f"payload {FORGED}"
    assert (record["level"], record["logger"]) == ("INFO", "stream_moe.test")
    assert record["time"].endswith("Z")
    assert "exception" not in record


@pytest.mark.parametrize("json_lines", [False, True])
def test_secrets_stay_out_of_messages_and_tracebacks(json_lines: bool) -> None:
    stream, log = logged(json_lines, (CANARY,))
    try:
        raise ValueError(f"refused {CANARY}\nINFO forged")
    except ValueError:
        log.exception("login with %s to kafka://me:%s@host/ failed", CANARY, "other-secret")
    text = stream.getvalue()
    assert CANARY not in text
    assert "other-secret" not in text
    assert "ValueError: refused ***" in text
    assert "kafka://me:***@host/" in text
    assert all(line.startswith(("    | ", "2", "{")) for line in text.splitlines())


@pytest.mark.parametrize("json_lines", [False, True])
def test_the_kafka_client_is_held_at_warning_and_never_below_info(json_lines: bool) -> None:
    stream, _ = logged(json_lines)
    for name in ("kafka", "kafka.conn"):
        logging.getLogger(name).info("not by default")
    assert logging.getLogger("kafka").level == logging.WARNING
    for name in ("kafka", "kafka.conn"):
        logging.getLogger(name).setLevel(logging.DEBUG)  # somebody turns it up
        logging.getLogger(name).debug("SaslAuthenticate %s", CANARY)
    assert stream.getvalue() == ""
    logging.getLogger("kafka.conn").warning("connection lost")
    assert "connection lost" in stream.getvalue()


def test_the_kafka_client_repeats_itself_once_a_minute() -> None:
    stream, _ = logged(False)
    for i in range(600):
        record = logging.LogRecord("kafka.heartbeat", logging.ERROR, "", 0, "Heartbeat failed: %s", (i,), None)
        record.created = 1e9 + i / 10
        logging.getLogger("kafka.heartbeat").handle(record)
    logging.getLogger("kafka.conn").error("something else: %s", 1)
    for _ in range(3):
        logging.getLogger("stream_moe.test").error("ours are all kept: %s", 1)
    written = stream.getvalue()
    assert (written.count("Heartbeat"), written.count("something else"), written.count("ours")) == (1, 1, 3)


def test_other_libraries_stay_at_warning() -> None:
    stream, _ = logged(False)
    logging.getLogger("numba.core").info("a thousand lines")
    assert stream.getvalue() == ""


def test_setting_up_again_replaces() -> None:
    first, _ = logged(False)
    second, log = logged(True)
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1


def test_settings_line_masks_secrets_wherever_they_are() -> None:
    line = settings_line(
        {
            "bootstrap": ["a:9092", "b:9092"],
            "sasl_plain_password": CANARY,
            "SSL_PASSWORD": CANARY,
            "nested": {"api_key": CANARY, "oauth": [{"client_secret": CANARY}]},
            "sasl_jaas_config": CANARY,
            "proxy": f"http://me:{CANARY}@proxy:3128",
            "tokens": [CANARY, CANARY],
            "password_file": "/run/secrets/kafka",
            "key_field": "id",
            "token": None,
            "note": "two\nlines",
        }
    )
    assert CANARY not in line
    assert len(line.splitlines()) == 1
    for part in ("bootstrap=a:9092,b:9092", "sasl_plain_password=***", "nested.oauth.0.client_secret=***",
                 "proxy=http://me:***@proxy:3128", "password_file=/run/secrets/kafka", "key_field=id",
                 "token=None", r"note=two\nlines"):  # fmt: skip
        assert part in line.split(" "), part


def test_escaping_keeps_what_people_read() -> None:
    assert printable("größe 5 µs, 語\ttab") == "größe 5 µs, 語\\ttab"


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        (
            "Task <Task x> ran for 2.314s (>0.500s threshold). It is blocking the event loop -- likely a tight sync "
            "loop inside a coroutine. Other pollers will time out.",
            "no processor for 2.314 s: this process or machine was busy, short of memory or stopped",
        ),
        (
            "Fatal Error handling request AddPartitionsToTxnRequest: KafkaError: Could not execute transactional "
            "request for unknown reasons: Cancelled",
            "the broker that keeps our transactions went away in the middle of a request",
        ),
        (
            "Fatal Error handling request InitProducerIdRequest: KafkaError: Unexpected error in "
            "InitProducerIdResponse: [Error 50] InvalidTransactionTimeoutError",
            "raise their transaction.max.timeout.ms",
        ),
        (
            "Fatal Error handling request InitProducerIdRequest: KafkaError: Unexpected error in "
            "InitProducerIdResponse: [Error -1] UnknownError",
            "no writer of transactions could be opened: [Error -1] UnknownError. It is tried again",
        ),
    ],
)
def test_alarms_of_the_kafka_client_are_said_in_our_words(said: str, ours: str) -> None:
    stream, _ = logged(False)
    logging.getLogger("kafka.net.selector").warning(said)
    assert ours in stream.getvalue()
    assert "coroutine" not in stream.getvalue()
    assert "unknown reasons" not in stream.getvalue()
