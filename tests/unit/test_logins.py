"""Tokens for OAUTHBEARER: each source, how long they live, and what a source that gives none says."""

from __future__ import annotations

import base64
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.errors import KafkaConnectionError
from pydantic import SecretStr

from connectors.kafka import KafkaSettings
from connectors.kafka.logins import UNKNOWN_SECONDS, Tokens, TokenSettings
from stream_moe.errors import ConfigError, LogError, StreamMoeError, UnavailableError
from tests.kafka.broker.tokens import CLIENT, SECRET, TokenEndpoint, token


@pytest.fixture
def endpoint() -> Iterator[TokenEndpoint]:
    found = TokenEndpoint()
    yield found
    found.close()


def at(endpoint: TokenEndpoint, **changes: Any) -> TokenSettings:
    given: dict[str, Any] = {"url": endpoint.url, "client": CLIENT, "secret": SecretStr(SECRET)}
    return TokenSettings(**given | changes)


def fetched(settings: TokenSettings) -> tuple[str, float]:
    return settings.source()[1]()


def command(code: str) -> TokenSettings:
    return TokenSettings(command=SecretStr(f"{sys.executable} -c {json.dumps(code)}"))


def test_an_endpoint_gives_a_token_for_the_clients_credentials(endpoint: TokenEndpoint) -> None:
    found = fetched(at(endpoint, scope="kafka.read"))
    assert found == (endpoint.given[0], 3600)
    assert endpoint.scopes == ["kafka.read"]


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ((401, b'{"error": "invalid_client"}'), LogError, "refused client 'stream-moe' (401, 'invalid_client')"),
        ((400, b'"no"'), LogError, "refused client 'stream-moe' (400); check sasl_username"),
        ((404, b"{}"), LogError, "answered 404; check the address"),
        ((302, b""), LogError, "302, which leads elsewhere"),
        ((503, b"later"), UnavailableError, "it answered 503"),
        ((200, b"<html>"), LogError, "without JSON"),
        ((200, b"{}"), LogError, "it gave no token"),
        ((200, b'{"access_token": "canary\\u0001auth=x"}'), LogError, "it gave no token"),
    ],
)
def test_an_endpoint_that_gives_none(
    endpoint: TokenEndpoint, answer: tuple[int, bytes], kind: type[Exception], said: str
) -> None:
    endpoint.answer = answer
    with pytest.raises(LogError) as caught:
        fetched(at(endpoint))
    assert type(caught.value) is kind
    assert said in str(caught.value)
    assert "canary" not in str(caught.value)


def test_an_endpoint_that_is_away(endpoint: TokenEndpoint) -> None:
    settings = at(endpoint)
    endpoint.close()
    with pytest.raises(UnavailableError, match=r"token endpoint http://127.0.0.1:\d+/token: no answer"):
        fetched(settings)


def test_a_command_prints_a_token_or_json() -> None:
    plain = token(50)
    found, seconds = fetched(command(f"print('{plain}')"))
    assert found == plain
    assert 40 < seconds <= 50  # as the token itself says
    assert fetched(command('print(\'{\\"access_token\\": \\"t\\", \\"expires_in\\": \\"7\\"}\')')) == ("t", 7)
    assert fetched(command("print('opaque')")) == ("opaque", UNKNOWN_SECONDS)
    assert fetched(command("print('no.j-w-t.')")) == ("no.j-w-t.", UNKNOWN_SECONDS)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (command("import sys; sys.exit('canary')"), "it ended with 1; run it by hand"),
        (command("print('canary twice')"), "it gave no token"),
        (TokenSettings(command=SecretStr("/nowhere/canary-free --token")), "No such file"),
        (TokenSettings(file=Path("/nowhere/token")), "No such file"),
    ],
)
def test_a_source_that_gives_none_shows_nothing_of_it(settings: TokenSettings, said: str) -> None:
    with pytest.raises(StreamMoeError, match=said) as caught:
        fetched(settings)
    assert "canary twice" not in str(caught.value)


def test_a_token_that_has_ended_is_none(tmp_path: Path) -> None:
    (tmp_path / "token").write_text(token(-5))
    with pytest.raises(UnavailableError, match="has ended already"):
        Tokens(TokenSettings(file=tmp_path / "token")).ready()


def test_amazon_signs_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found, seconds = fetched(TokenSettings(aws_region="eu-west-1"))
    assert base64.urlsafe_b64decode(found + "==").startswith(b"https://kafka.eu-west-1.amazonaws.com/")
    assert 800 < seconds <= 900
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(LogError, match="AWS credentials for region eu-west-1: none can be used"):
        fetched(TokenSettings(aws_region="eu-west-1"))


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(package: str) -> None:
        raise ModuleNotFoundError(package, name=package.partition(".")[0])

    monkeypatch.setattr("stream_moe.runtime.extras.importlib.import_module", missing)
    with pytest.raises(ConfigError, match=r"sasl_aws_region: needs.*pip install 'stream-moe\[msk\]'"):
        fetched(TokenSettings(aws_region="eu-west-1"))


def test_a_token_is_renewed_before_it_ends_and_kept_while_there_is_no_new_one(
    endpoint: TokenEndpoint, caplog: pytest.LogCaptureFixture
) -> None:
    def held() -> str:
        with contextlib.suppress(KafkaConnectionError):  # none that lives
            return provider.token()
        return ""

    def wait_for_newest() -> None:
        """The endpoint knows a token a moment before we hold it."""
        while held() != endpoint.given[-1]:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    endpoint.seconds = 3  # renewed after 2.25
    provider = Tokens(at(endpoint))
    provider.ready()
    deadline = time.monotonic() + 15
    while len(endpoint.given) < 3:
        assert provider.token() in endpoint.given  # at no moment is there none that lives
        assert time.monotonic() < deadline
        time.sleep(0.05)
    endpoint.answer = (503, b"")
    wait_for_newest()
    time.sleep(3.3)
    with pytest.raises(KafkaConnectionError, match="gives none since the last one ended"):
        provider.token()
    assert "no new token" in caplog.text
    endpoint.answer = None
    deadline = time.monotonic() + 15
    wait_for_newest()  # it comes back by itself
    assert len(endpoint.given) >= 4
    provider.close()
    shown = f"{provider!r} {at(endpoint)!r} {caplog.text}"
    assert not [given for given in [SECRET, *endpoint.given] if given in shown]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "one source of tokens, not none"),
        ({"sasl_token_file": Path("a"), "sasl_aws_region": "x"}, "not sasl_token_file and sasl_aws_region"),
        ({"sasl_token_url": "https://idp/token"}, "needs the client's id"),
        ({"sasl_token_url": "http://idp/token"}, "would be read on the way"),
        ({"sasl_token_url": "https://me:canary@idp/token"}, "without a user or password"),
        ({"sasl_token_command": SecretStr("'canary")}, "sasl_token_command: no closing quotation"),
        ({"sasl_token_command": SecretStr(" ")}, "it is empty"),
        ({"sasl_aws_region": "x", "sasl_extensions": "auth=canary-free"}, "write NAME=VALUE"),
        (
            {"sasl_aws_region": "x", "security_protocol": "SASL_PLAINTEXT"},
            "sends the token in the clear; use SASL_SSL",
        ),
        ({"sasl_aws_region": "x", "security_protocol": "SSL"}, "uses no tokens"),
        ({"sasl_aws_region": "x", "sasl_token_ca": Path("/nowhere")}, "sasl_token_ca: no file"),
    ],
)
def test_settings_that_do_not_fit(changes: dict[str, Any], said: str) -> None:
    options = {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"} | changes
    with pytest.raises(ConfigError, match=said) as caught:
        KafkaSettings("localhost:9093", "events", **options)
    assert "canary@" not in str(caught.value)
    assert "'canary" not in str(caught.value)


def test_settings_show_no_command() -> None:
    settings = KafkaSettings(
        "localhost:9093",
        "events",
        security_protocol="SASL_SSL",
        sasl_mechanism="OAUTHBEARER",
        sasl_token_command=SecretStr("get-token --with canary"),
    )
    assert "canary" not in f"{settings!r} {settings}"
    assert settings.secrets() == ["get-token --with canary"]
