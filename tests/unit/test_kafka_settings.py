"""Settings of the Kafka connector that do not fit are refused before a broker is asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from connectors.kafka import KafkaSettings
from connectors.kafka.settings import require_helpers
from stream_moe.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guarantee": "exactly-twice"}, "exactly-twice"),
        ({"security_protocol": "TLS"}, "'TLS' does not exist"),
        ({"security_protocol": "SASL_SSL"}, "needs a SASL user name and password"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "GSSAPI"}, "'GSSAPI' is not supported"),
        ({"ssl_ca": "/nowhere/ca.pem"}, "no file '/nowhere/ca.pem'"),
        ({"predictions": "events"}, "must differ"),
        (
            {
                "security_protocol": "SASL_PLAINTEXT",
                "sasl_mechanism": "PLAIN",
                "sasl_username": "u",
                "sasl_password": SecretStr("p"),
            },
            "in the clear",
        ),
    ],
)
def test_settings_that_do_not_fit(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        KafkaSettings("localhost:9092", "events", **options)


def test_the_fast_helpers_are_required() -> None:
    require_helpers()
    with pytest.raises(ConfigError, match="pip install no_such_helper"):
        require_helpers(("lz4", "no_such_helper"))
