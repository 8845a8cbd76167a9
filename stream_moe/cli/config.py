"""Settings from several places: a flag wins over the environment, that over a TOML file, that over a default."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from stream_moe.errors import ConfigError

ENVIRONMENT = "STREAM_MOE_KAFKA_"
KAFKA_KEYS = (
    "bootstrap", "topic", "predictions", "dead_letters", "group", "guarantee", "security_protocol",
    "sasl_mechanism", "sasl_username", "sasl_password", "ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password",
    "allow_plaintext_password", "labels", "journal", "drifts",
)  # fmt: skip
DEFAULTS = {"bootstrap": "localhost:9092", "topic": "events"}
_SECRETS = ("sasl_password", "ssl_key_password")
_FILES = tuple(f"{key}_file" for key in _SECRETS)
_PATHS = ("ssl_ca", "ssl_cert", "ssl_key")


def kafka_values(
    flags: Mapping[str, Any], file: Path | None, environment: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Merge the settings of Kafka.

    Parameters
    ----------
    flags
        From the command line; None = not given.
    file
        TOML with a table `[kafka]` whose keys are those of `KafkaSettings`, and `sasl_password_file` and
        `ssl_key_password_file` for files that hold a secret.
    environment
        `STREAM_MOE_KAFKA_<KEY>` for the same keys; None = the process's own.

    Examples
    --------
    >>> kafka_values({"topic": "a", "group": None}, None, {"STREAM_MOE_KAFKA_GROUP": "b"})
    {'bootstrap': 'localhost:9092', 'topic': 'a', 'group': 'b'}
    """
    environment = os.environ if environment is None else environment
    set_there = {
        key: environment[name] for key in KAFKA_KEYS + _FILES if (name := ENVIRONMENT + key.upper()) in environment
    }
    values = DEFAULTS | _with_secrets(_table(file)) | _with_secrets(set_there)
    values |= {key: value for key, value in flags.items() if value is not None}
    values |= {key: Path(values[key]) for key in _PATHS if key in values}
    if "allow_plaintext_password" in values:
        values["allow_plaintext_password"] = str(values["allow_plaintext_password"]).lower() in {"1", "true", "yes"}
    return values


def _with_secrets(values: dict[str, Any]) -> dict[str, Any]:
    """Read the secrets that lie in files, and wrap all of them so that none is shown by accident."""
    values = dict(values)
    for key in _SECRETS:
        if (name := values.pop(f"{key}_file", None)) is not None:
            values[key] = _read_secret(Path(name), f"{key}_file")
        if key in values:
            values[key] = SecretStr(str(values[key]))
    return values


def _read_secret(path: Path, what: str) -> str:
    """Read a file that holds one secret; ConfigError, which names `what`, where that fails or it is empty."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{what}: {path}: {error.strerror}") from None
    except UnicodeDecodeError:  # whose text would show the content
        raise ConfigError(f"{what}: {path}: not UTF-8 text") from None
    if not secret:
        raise ConfigError(f"{what}: {path} is empty; write the secret into it")
    return secret


def _table(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}") from None
    except UnicodeDecodeError:  # whose text would show the content
        raise ConfigError(f"--config {file}: not UTF-8 text") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"--config {file}: not TOML: {error}") from None
    table = content.pop("kafka", {})
    unknown = [*content, *(key for key in table if key not in KAFKA_KEYS + _FILES)]
    if unknown:
        raise ConfigError(f"--config {file}: unknown key {unknown[0]!r}; [kafka] takes {', '.join(KAFKA_KEYS)}")
    return dict(table)
