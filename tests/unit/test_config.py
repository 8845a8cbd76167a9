"""Settings of Kafka: which place wins, and where a secret may lie."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka import KafkaSettings
from stream_moe.cli.config import kafka_values
from stream_moe.errors import ConfigError
from tests.certificates import Authority

CANARY = "canary-51c0"


def test_flag_over_environment_over_file_over_default(tmp_path: Path) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text('[kafka]\ntopic = "file"\ngroup = "file"\npredictions = "file"\n')
    environment = {"STREAM_MOE_KAFKA_TOPIC": "environment", "STREAM_MOE_KAFKA_GROUP": "environment"}
    values = kafka_values({"topic": "flag", "group": None}, file, environment)
    assert values == {
        "bootstrap": "localhost:9092", "topic": "flag", "group": "environment", "predictions": "file"
    }  # fmt: skip


@pytest.mark.parametrize("key", ["sasl_password", "ssl_key_password"])
@pytest.mark.parametrize("place", ["file", "file of a file", "environment", "file of the environment"])
def test_secrets_come_from_files_or_the_environment(key: str, place: str, tmp_path: Path) -> None:
    secret, file, environment = tmp_path / "secret", None, {}
    secret.write_text(f"{CANARY}\n")
    if place.startswith("file"):
        file = tmp_path / "kafka.toml"
    if place == "file":
        (tmp_path / "kafka.toml").write_text(f'[kafka]\n{key} = "{CANARY}"\n')
    elif place == "file of a file":
        (tmp_path / "kafka.toml").write_text(f'[kafka]\n{key}_file = "{secret}"\n')
    elif place == "environment":
        environment = {f"STREAM_MOE_KAFKA_{key.upper()}": CANARY}
    else:
        environment, file = {f"STREAM_MOE_KAFKA_{key.upper()}_FILE": str(secret)}, None
    values = kafka_values({}, file, environment)
    assert values[key].get_secret_value() == CANARY
    assert CANARY not in repr(values)
    settings = KafkaSettings(**values)
    assert settings.secrets() == [CANARY]
    assert CANARY not in f"{settings} {settings!r}"


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"", "is empty"), (b"\xff" + CANARY.encode(), "not UTF-8")]
)
def test_a_secret_that_cannot_be_read(content: bytes | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=said) as caught:
        kafka_values({}, None, {"STREAM_MOE_KAFKA_SASL_PASSWORD_FILE": str(file)})
    assert "sasl_password_file" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("us")
    _, other = authority.issue("them")
    (tmp_path / "text").write_text("no certificate")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"ssl_ca": tmp_path / "text"}, "must hold certificates in PEM"),
        ({"ssl_cert": certificate, "ssl_key": other}, "belong together"),
        ({"ssl_cert": certificate, "ssl_key": tmp_path / "text"}, "must be PEM"),
    ]
    for options, said in cases:
        settings = KafkaSettings("localhost:9092", "events", security_protocol="SSL", **options)
        with pytest.raises(ConfigError, match=said):
            settings.client()
    KafkaSettings("localhost:9092", "events", security_protocol="SSL", ssl_cert=certificate, ssl_key=key).client()
    with pytest.raises(ConfigError, match="ssl_key without ssl_cert"):
        KafkaSettings("localhost:9092", "events", security_protocol="SSL", ssl_key=key)
    with pytest.raises(ConfigError, match="uses no certificates"):
        KafkaSettings("localhost:9092", "events", ssl_cert=certificate)
