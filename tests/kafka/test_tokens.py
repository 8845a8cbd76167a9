"""OAUTHBEARER on a real broker: tokens from each source, renewed while a daemon runs, and what wrong ones say."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from connectors.kafka import KafkaSettings, partition_counts
from connectors.kafka.logins import Tokens, TokenSettings
from stream_moe.errors import LogError, UnavailableError
from tests.kafka.broker import missing_tools
from tests.kafka.broker.tokens import CLIENT, SECRET, TokenBroker, TokenEndpoint, token
from tests.kafka.daemons import stream_moe
from tests.kafka.steps import committed_records

pytestmark = pytest.mark.kafka

EVENTS, WAVES = 200, 4


@pytest.fixture(scope="module")
def broker() -> Iterator[TokenBroker]:
    missing = missing_tools()
    if missing and "CI" not in os.environ:
        pytest.skip(f"no {' and no '.join(missing)} here to start an Apache Kafka broker with")
    found = TokenBroker()
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has providers of its own, which end with it."""
    made: list[Tokens] = []

    def tokens(settings: TokenSettings) -> Tokens:
        made.append(Tokens(settings))
        return made[-1]

    monkeypatch.setattr("connectors.kafka.settings.tokens", tokens)
    yield
    for each in made:
        each.close()


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    found = TokenEndpoint()
    yield found
    found.close()


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, out + err
    return out + err


def test_a_daemon_outlives_its_tokens(broker: TokenBroker, endpoint: TokenEndpoint, tmp_path: Path) -> None:
    """Tokens of 3 s, whose connections the broker ends with them; events come over four such lives."""
    topic = "renewed.events"
    (tmp_path / "secret").write_text(SECRET)
    environment = {
        "BOOTSTRAP": broker.sasl_bootstrap,
        "SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "ALLOW_PLAINTEXT_PASSWORD": "true",
        "SASL_MECHANISM": "OAUTHBEARER",
        "SASL_TOKEN_URL": endpoint.url,
        "SASL_USERNAME": CLIENT,
        "SASL_PASSWORD_FILE": str(tmp_path / "secret"),
    }
    plain = KafkaSettings(broker.bootstrap, topic, predictions="renewed.out", group="renewed")
    outputs = ["--predictions", plain.predictions, "--dead-letters", "renewed.bad", "--group", plain.group]
    produce = ["produce", "electricity", "--events", str(EVENTS), "--topic", topic]
    shown = finish(stream_moe(*produce, kafka=environment))
    before, endpoint.seconds = len(endpoint.given), 3
    state = tmp_path / "state"
    outputs += ["--state-dir", str(state), "--metrics-port", "0", "--model", "naive-bayes"]
    daemon = stream_moe("run", *outputs, "--topic", topic, kafka=environment)
    try:
        shown += Path(f"/proc/{daemon.pid}/cmdline").read_text()
        deadline = time.monotonic() + 100
        for wave in range(1, WAVES + 1):
            if wave > 1:
                shown += finish(stream_moe(*produce, kafka=environment))
            while not has(plain, wave * EVENTS):
                assert daemon.poll() is None, daemon.communicate()
                assert time.monotonic() < deadline
            time.sleep(3)
        daemon.terminate()
        shown += finish(daemon)
    finally:
        daemon.kill()
    assert len(endpoint.given) - before >= WAVES
    files = [path for path in state.rglob("*") if path.is_file()]
    assert any(path.suffix == ".ckpt" for path in files)
    shown += "".join(path.read_bytes().decode("latin-1") for path in files)
    assert not [given for given in [SECRET, *endpoint.given] if given in shown]


def has(settings: KafkaSettings, predictions: int) -> bool:
    try:
        return len(committed_records(settings, settings.predictions)) >= predictions
    except LogError:  # not made yet
        return False
    finally:
        time.sleep(0.2)


def settings(broker: TokenBroker, source: str, given: object) -> KafkaSettings:
    return KafkaSettings(
        broker.sasl_bootstrap,
        "events",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        allow_plaintext_password=True,
        **{source: given},  # type: ignore[arg-type]
    )


def test_a_command_and_a_file_give_tokens_too(broker: TokenBroker, tmp_path: Path) -> None:
    held = tmp_path / "token"
    held.write_text(token(60))
    command = SecretStr(f"{sys.executable} -c \"print(open('{held}').read())\"")
    for source, given in (("sasl_token_file", held), ("sasl_token_command", command)):
        assert partition_counts(settings(broker, source, given), ["nothing"]) == {"nothing": 0}


def test_a_token_that_the_broker_refuses_is_one_line(broker: TokenBroker, tmp_path: Path) -> None:
    held = tmp_path / "signed"
    held.write_text(signed := token(60) + "c2lnbmVk")  # signed, where the broker takes unsigned ones alone
    with pytest.raises(LogError, match="the broker refused our token; check its issuer") as caught:
        partition_counts(settings(broker, "sasl_token_file", held), ["nothing"])
    assert signed not in f"{caught.value} {caught.value.__cause__!r}"


def test_an_endpoint_that_is_away_at_the_start_is_one_line(broker: TokenBroker, endpoint: TokenEndpoint) -> None:
    endpoint.close()
    found = KafkaSettings(
        broker.sasl_bootstrap,
        "events",
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        allow_plaintext_password=True,
        sasl_token_url=endpoint.url,
        sasl_username=CLIENT,
        sasl_password=SecretStr(SECRET),
    )
    with pytest.raises(UnavailableError, match="no answer"):
        partition_counts(found, ["nothing"])
