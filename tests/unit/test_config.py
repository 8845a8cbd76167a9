"""Settings of the daemon: which place wins, and where a secret may lie."""

from __future__ import annotations

import re
import traceback
from pathlib import Path
from typing import Any

import pytest

from connectors.kafka import KafkaSettings
from stream_moe.cli.flags import flags_of, shown
from stream_moe.cli.run import RunSettings
from stream_moe.cli.settings import Kafka
from stream_moe.cli.sources import read
from stream_moe.errors import ConfigError
from tests.certificates import Authority

CANARY = "canary-51c0"


def settings(file: Path | None = None, **flags: Any) -> RunSettings:
    """The settings of `run` with these options on its command line."""
    options = {flag.option: flag for flag in flags_of(RunSettings)}
    given = {options[name]: value for name, value in ({"state_dir": "state"} | flags).items()}
    return read(RunSettings, given, file)


def test_flag_over_environment_over_file_over_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text('[kafka]\ntopic = "file"\ngroup = "file"\npredictions = "file"\n')
    monkeypatch.setenv("STREAM_MOE_KAFKA_TOPIC", "environment")
    monkeypatch.setenv("STREAM_MOE_KAFKA_GROUP", "environment")
    found = settings(file, topic="flag").kafka
    assert found == Kafka(topic="flag", group="environment", predictions="file")
    assert found.settings() == KafkaSettings("localhost:9092", "flag", "file", group="environment")


def test_a_list_in_the_environment_is_words_between_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAM_MOE_MODEL_SET", "k=3, window=50")
    monkeypatch.setenv("STREAM_MOE_MODEL", "somebody else's")
    assert settings().model.parameters == {"k": "3", "window": "50"}


def test_defaults_are_those_of_the_connector() -> None:
    assert settings().kafka.settings() == KafkaSettings("localhost:9092", "events")


def test_every_group_of_run_is_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        '[model]\nname = "knn"\nset = ["k=3"]\nseed = 2\n[engine]\nblock_rows = 10\ncheckpoint_seconds = 1\n'
        '[metrics]\nport = 0\n[keys]\nper = "key"\n[output]\nquiet = true\n'
    )
    monkeypatch.setenv("STREAM_MOE_ENGINE_BLOCK_ROWS", "20")
    monkeypatch.setenv("STREAM_MOE_MODEL_SEED", "3")
    monkeypatch.setenv("STREAM_MOE_METRICS_PORT", "tcp://10.0.0.1:9108")  # as Kubernetes sets it for a service
    found = settings(file, seed=4, metrics_port=1)
    assert (found.model.name, found.model.parameters, found.model.seed) == ("knn", {"k": "3"}, 4)
    assert (found.engine.block_rows, found.engine.checkpoint_seconds, found.engine.max_waiting) == (20, 1.0, 100_000)
    assert (found.metrics.port, found.output.quiet) == (1, True)
    loop = found.engine_settings()
    assert (loop.model, loop.block_rows) == ("knn", 20)
    with pytest.raises(ConfigError, match=r"STREAM_MOE_METRICS_PORT 'tcp:.*': it should be a valid int"):
        settings(file)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[kafka]\ntopik = 'a'", "unknown key 'topik'; [kafka] takes bootstrap, topic"),
        ("[engine]\nrows = 3", "unknown key 'rows'; [engine] takes until_caught_up"),
        ("[river]\na = 3", r"unknown key 'river'; it takes the tables [kafka], [records], [model]"),
        ("kafka = 3", "unknown key 'kafka'; it takes the tables"),
        ("[engine]\nblock_rows = 0", r"[engine] block_rows 0: it should be greater than or equal to 1"),
        ("[model]\nset = 'k=3'", r"[model] set 'k=3': it should be a valid list"),
        ("[metrics]\nport = 70000", r"[metrics] port 70000: it should be less than or equal to 65535"),
        ("[kafka", "not TOML"),
    ],
)
def test_a_mistake_in_the_file_is_one_line(content: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        settings(file)
    assert f"--config {file}: " in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("page", ["operations", "security"])
def test_the_files_that_pages_show_are_read(page: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()
    (shown_there,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    secret = tmp_path / "password"
    secret.write_text(CANARY)
    file = tmp_path / "run.toml"
    file.write_text(shown_there.replace("/run/secrets/kafka-password", str(secret)))
    assert settings(file).kafka.bootstrap == "kafka-1:9093,kafka-2:9093"


@pytest.mark.parametrize("key", ["sasl_password", "ssl_key_password"])
@pytest.mark.parametrize("place", ["file", "file of a file", "environment", "file of the environment", "over a file"])
def test_secrets_come_from_files_or_the_environment(
    key: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret, file = tmp_path / "secret", tmp_path / "kafka.toml"
    secret.write_text("not this one\n" if place == "over a file" else f"{CANARY}\n")
    if place == "file":
        file.write_text(f'[kafka]\n{key} = "{CANARY}"\n')
    elif place in {"file of a file", "over a file"}:
        file.write_text(f'[kafka]\n{key}_file = "{secret}"\n')
    if place in {"environment", "over a file"}:
        monkeypatch.setenv(f"STREAM_MOE_KAFKA_{key.upper()}", CANARY)
    elif place == "file of the environment":
        monkeypatch.setenv(f"STREAM_MOE_KAFKA_{key.upper()}_FILE", str(secret))
    found = settings(file if file.exists() else None)
    kafka = found.kafka.settings()
    value = getattr(kafka, key)
    assert value.get_secret_value() == CANARY
    assert kafka.secrets() == [CANARY]
    assert CANARY not in f"{found} {found!r} {kafka} {kafka!r} {shown(found)}"


@pytest.mark.parametrize(
    ("content", "said"), [(None, "No such file"), (b"", "is empty"), (b"\xff" + CANARY.encode(), "not UTF-8")]
)
def test_a_secret_that_cannot_be_read(
    content: bytes | None, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("STREAM_MOE_KAFKA_SASL_PASSWORD_FILE", str(file))
    with pytest.raises(ConfigError, match=said) as caught:
        settings().kafka.settings()
    assert "sasl_password_file" in str(caught.value)
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_secret_file_that_is_no_path_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text("[kafka]\nsasl_password_file = 5\n")
    with pytest.raises(ConfigError, match="sasl_password_file: a int; name a file that holds the secret"):
        settings(file)


def test_a_secret_of_a_wrong_type_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "kafka.toml"
    file.write_text(f'[kafka]\nsasl_password = ["{CANARY}"]\n')
    with pytest.raises(ConfigError, match="sasl_password: it should be a valid string") as caught:
        settings(file)
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
        kafka = KafkaSettings("localhost:9092", "events", security_protocol="SSL", **options)
        with pytest.raises(ConfigError, match=said):
            kafka.client()
    KafkaSettings("localhost:9092", "events", security_protocol="SSL", ssl_cert=certificate, ssl_key=key).client()
    with pytest.raises(ConfigError, match="ssl_key without ssl_cert"):
        KafkaSettings("localhost:9092", "events", security_protocol="SSL", ssl_key=key)
    with pytest.raises(ConfigError, match="uses no certificates"):
        KafkaSettings("localhost:9092", "events", ssl_cert=certificate)
