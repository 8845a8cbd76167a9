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
    "sasl_mechanism", "sasl_username", "sasl_password", "ssl_ca", "ssl_cert", "ssl_key", "allow_plaintext_password",
)  # fmt: skip
DEFAULTS = {"bootstrap": "localhost:9092", "topic": "events"}
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
        TOML with a table `[kafka]` whose keys are those of `KafkaSettings`.
    environment
        `STREAM_MOE_KAFKA_<KEY>`, and `STREAM_MOE_KAFKA_SASL_PASSWORD_FILE` for a file that holds the password;
        None = the process's own.

    Examples
    --------
    >>> kafka_values({"topic": "a", "group": None}, None, {"STREAM_MOE_KAFKA_GROUP": "b"})
    {'bootstrap': 'localhost:9092', 'topic': 'a', 'group': 'b'}
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = DEFAULTS | _table(file)
    for key in KAFKA_KEYS:
        if (value := environment.get(ENVIRONMENT + key.upper())) is not None:
            values[key] = value
    if (name := environment.get(f"{ENVIRONMENT}SASL_PASSWORD_FILE")) is not None:
        try:
            values["sasl_password"] = Path(name).read_text().strip()
        except OSError as error:
            raise ConfigError(f"{ENVIRONMENT}SASL_PASSWORD_FILE: {name}: {error.strerror}") from None
    values |= {key: value for key, value in flags.items() if value is not None}
    if "sasl_password" in values:
        values["sasl_password"] = SecretStr(str(values["sasl_password"]))
    values |= {key: Path(values[key]) for key in _PATHS if key in values}
    if "allow_plaintext_password" in values:
        values["allow_plaintext_password"] = str(values["allow_plaintext_password"]).lower() in {"1", "true", "yes"}
    return values


def _table(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        content = tomllib.loads(file.read_text())
    except OSError as error:
        raise ConfigError(f"--config {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"--config {file}: not TOML: {error}") from None
    table = content.pop("kafka", {})
    unknown = [*content, *(key for key in table if key not in KAFKA_KEYS)]
    if unknown:
        raise ConfigError(f"--config {file}: unknown key {unknown[0]!r}; [kafka] takes {', '.join(KAFKA_KEYS)}")
    return dict(table)
