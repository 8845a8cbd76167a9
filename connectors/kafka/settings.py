"""Where the broker is, who we are to it, and how its client is set up."""

from __future__ import annotations

import importlib.util
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import SecretStr

from connectors.kafka.internals import Client, quiet_loggers
from connectors.kafka.logins import TokenSettings, tokens
from connectors.names import writer_name
from connectors.web import reason_of, trusting
from stream_moe.errors import ConfigError
from stream_moe.shown import holds_secret

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
CONNECT_SECONDS = 8.0  # a broker that is not there is reported within about 10 s
REQUEST_MS = 10_000  # a broker that is frozen is given up after this; the others take it for dead after 9 s

# Without crc32c the checksum runs in Python: 44,000 records of 200 bytes a second instead of 267,000.
_HELPERS = ("crc32c", "lz4")


@dataclass(frozen=True)
class KafkaSettings:
    """Address, names and credentials; ConfigError where they do not fit together.

    Parameters
    ----------
    bootstrap
        Addresses, "host:port" separated by commas.
    topic, predictions, dead_letters
        The input topic and the two output topics.
    labels
        Topic of the labels, where they have one of their own: with as many partitions as the input, and a label in
        the partition with the number of its event's. None = they are in the input topic.
    journal
        With `labels`: topic that tells in which order both were read. Made where it is missing, and never compacted.
        None = ``<group>-<topic>-journal``.
    drifts
        Topic for the drifts found, a JSON object each, in the transaction of their block; None = none.
    group
        The consumer group, whose committed offset is the position of the model.
    guarantee
        "exactly-once": one transaction per block. "at-least-once": outputs first, position second.
    security_protocol
        PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
    sasl_mechanism, sasl_username, sasl_password
        PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512 and the credentials; the password comes from a file or the
        environment, never from the command line, and is not shown by repr.
    sasl_token_url, sasl_token_command, sasl_token_file, sasl_aws_region
        With OAUTHBEARER: where tokens come from, one of these (`TokenSettings`). User name and password are then
        those of the token endpoint's client.
    sasl_scope, sasl_token_ca, sasl_extensions
        What is asked for at the token endpoint, whom to trust there (PEM), and what is sent beside a token.
    ssl_ca, ssl_cert, ssl_key
        Files (PEM): the authority to trust, and this client's certificate and key for mutual TLS. Read once,
        at the start: after a renewal start again.
    ssl_key_password
        The passphrase of an encrypted key; like the password from a file or the environment.
    allow_plaintext_password
        Permit the mechanisms PLAIN and OAUTHBEARER without TLS, where anybody on the way reads the secret.
    batch_memory
        Megabytes that a compressed batch of a topic may unpack to; the records of a larger one are dead letters.

    Examples
    --------
    >>> settings = KafkaSettings("localhost:9093", "events", security_protocol="SASL_SSL", sasl_username="me",
    ...                          sasl_password=SecretStr("hush"))
    >>> "hush" in repr(settings), settings.transactional_id(0)
    (False, 'stream-moe-events-0')
    """

    bootstrap: str
    topic: str
    predictions: str = "predictions"
    dead_letters: str = "dead-letters"
    group: str = "stream-moe"
    guarantee: Literal["exactly-once", "at-least-once"] = "exactly-once"
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    sasl_username: str | None = None
    sasl_password: SecretStr | None = None
    sasl_token_url: str | None = None
    sasl_token_command: SecretStr | None = None
    sasl_token_file: Path | None = None
    sasl_aws_region: str | None = None
    sasl_scope: str | None = None
    sasl_token_ca: Path | None = None
    sasl_extensions: str | None = None
    ssl_ca: Path | None = None
    ssl_cert: Path | None = None
    ssl_key: Path | None = None
    ssl_key_password: SecretStr | None = None
    allow_plaintext_password: bool = False
    labels: str | None = None
    journal: str | None = None
    drifts: str | None = None
    batch_memory: int = 64

    def __post_init__(self) -> None:
        if "@" in self.bootstrap or holds_secret(self.bootstrap):  # which is not repeated
            raise ConfigError("bootstrap: HOST:PORT without a user or password; those are sasl_username and its file")
        if self.guarantee not in ("exactly-once", "at-least-once"):
            raise ConfigError(f"guarantee {self.guarantee!r} does not exist; use exactly-once or at-least-once")
        if self.security_protocol not in PROTOCOLS:
            raise ConfigError(f"security protocol {self.security_protocol!r} does not exist; use {_or(PROTOCOLS)}")
        if self.security_protocol.startswith("SASL"):
            self._check_login()
        elif any((self.sasl_token_url, self.sasl_token_command, self.sasl_token_file, self.sasl_aws_region)):
            raise ConfigError(
                f"security protocol {self.security_protocol} uses no tokens, yet their source is set; use SASL_SSL"
            )
        for what in ("ssl_ca", "ssl_cert", "ssl_key", "sasl_token_ca"):
            path = getattr(self, what)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"{what}: no file {str(path)!r}")
        if self.ssl_key is not None and self.ssl_cert is None:
            raise ConfigError("ssl_key without ssl_cert; name the certificate too")
        if not self.uses_tls and any((self.ssl_ca, self.ssl_cert)):
            raise ConfigError(
                f"security protocol {self.security_protocol} uses no certificates, yet ssl_ca or ssl_cert is set; "
                "use SSL or SASL_SSL"
            )
        if not 1 <= self.batch_memory <= 1024:
            raise ConfigError(f"batch_memory {self.batch_memory}: 1 to 1024 megabytes")
        if self.labels is None and self.journal is not None:
            raise ConfigError(
                f"journal {self.journal!r}: only labels with a topic of their own need one; set labels too"
            )
        if self.labels is not None and self.guarantee != "exactly-once":
            raise ConfigError(
                f"labels with a topic of their own need guarantee exactly-once, not {self.guarantee}: one "
                "transaction must hold a block's outputs and its journal entry"
            )
        topics = [self.topic, *self.outputs, *([self.labels] if self.labels is not None else [])]
        if len(set(topics)) < len(topics):
            raise ConfigError(f"topics {', '.join(map(repr, topics))}: they must differ")

    def _check_login(self) -> None:
        if self.sasl_mechanism not in MECHANISMS:
            raise ConfigError(f"SASL mechanism {self.sasl_mechanism!r} is not supported; use {_or(MECHANISMS)}")
        sources = self._token_settings() if self.uses_tokens else None  # which checks them
        if sources is None and (not self.sasl_username or self.sasl_password is None):
            raise ConfigError(f"{self.security_protocol} needs a SASL user name and password")
        clear = self.security_protocol == "SASL_PLAINTEXT" and not self.sasl_mechanism.startswith("SCRAM")
        if clear and not self.allow_plaintext_password:
            secret, instead = ("token", "SASL_SSL") if sources else ("password", "SASL_SSL or SCRAM-SHA-512")
            raise ConfigError(
                f"SASL_PLAINTEXT with {self.sasl_mechanism} sends the {secret} in the clear; use {instead}, or "
                "permit it by name (allow_plaintext_password)"
            )

    @property
    def uses_tokens(self) -> bool:
        """Whether we log in with tokens."""
        return self.security_protocol.startswith("SASL") and self.sasl_mechanism == "OAUTHBEARER"

    def _token_settings(self) -> TokenSettings:
        return TokenSettings(
            url=self.sasl_token_url,
            client=self.sasl_username,
            secret=self.sasl_password,
            scope=self.sasl_scope,
            command=self.sasl_token_command,
            file=self.sasl_token_file,
            aws_region=self.sasl_aws_region,
            ca=self.sasl_token_ca,
            extensions=self.sasl_extensions,
        )

    def transactional_id(self, partition: int) -> str:
        """Name the one writer for a partition; a newer instance with the same name fences the older.

        Where earlier versions had another name (`connectors.names`), a member of theirs is not fenced by it during a
        rolling upgrade. Nothing of exactly-once depends on that: each commit shows the member's generation, and a
        broker refuses that of a member which lost the partition; the committed position is asked for as a stable
        one, so a transaction that is still open is waited for, until its own time-out at most.
        """
        return writer_name(self.group, self.topic, partition)

    @property
    def journal_topic(self) -> str | None:
        """Name of the journal, None where none is written."""
        if self.labels is None:
            return None
        return self.journal or f"{self.group}-{self.topic}-journal"

    @property
    def outputs(self) -> list[str]:
        """Topics that are written to, partition i of each for partition i of the input."""
        named = [self.predictions, self.dead_letters, self.journal_topic, self.drifts]
        return [topic for topic in named if topic is not None]

    @property
    def uses_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.security_protocol.endswith("SSL")

    def secrets(self) -> list[str]:
        """List what must never be shown, for `setup_logging`."""
        held = self.sasl_password, self.ssl_key_password, self.sasl_token_command
        return [secret.get_secret_value() for secret in held if secret]

    def client(self) -> dict[str, Any]:
        """Give the options that every kafka-python client of ours has in common.

        Also checks that the client's C helpers are installed and that the certificates can be read (ConfigError),
        fetches a token where we log in with one (LogError), and forbids the client to log at DEBUG.
        """
        require_helpers()
        quiet_loggers()
        options: dict[str, Any] = {
            "bootstrap_servers": self.bootstrap.split(","),
            "client_id": "stream-moe",
            "bootstrap_timeout_ms": int(CONNECT_SECONDS * 1000),
            "reconnect_backoff_max_ms": 1000,  # back soon after a restart of the broker
            "request_timeout_ms": REQUEST_MS,
            "security_protocol": self.security_protocol,
            "ssl_context": self._tls() if self.uses_tls else None,
            "kafka_client": Client,
        }
        if self.uses_tokens:
            provider = tokens(self._token_settings())
            provider.ready()
            options |= {"sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": provider}
        elif self.security_protocol.startswith("SASL") and self.sasl_password is not None:
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password.get_secret_value()
        return options

    def _tls(self) -> ssl.SSLContext:
        context = trusting(self.ssl_ca, "ssl_ca")
        if self.ssl_cert is not None:
            secret = self.ssl_key_password
            # Without a password the library would ask for one on the terminal.
            password = secret.get_secret_value() if secret else ""
            try:
                context.load_cert_chain(self.ssl_cert, self.ssl_key, password)
            except OSError as error:
                raise ConfigError(
                    f"ssl_cert {self.ssl_cert}, ssl_key {self.ssl_key or 'in the same file'}: "
                    f"{reason_of(error)}; certificate and key must be PEM and belong together, and an encrypted "
                    "key needs the right ssl_key_password"
                ) from None
        return context


def require_helpers(names: tuple[str, ...] = _HELPERS) -> None:
    """Raise ConfigError unless the C packages that kafka-python is slow without are installed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"Kafka needs the C helpers {', '.join(missing)}: pip install {' '.join(missing)}")


def _or(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"
