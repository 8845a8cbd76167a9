"""Tokens for SASL OAUTHBEARER: where they come from, and how they are renewed before they end."""

from __future__ import annotations

import base64
import json
import logging
import shlex
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from kafka import errors
from kafka.net.sasl.oauth import AbstractTokenProvider
from pydantic import SecretStr

from connectors.web import ask, check_address, trusting
from stream_moe.errors import ConfigError, LogError, StreamMoeError, UnavailableError
from stream_moe.runtime.extras import need
from stream_moe.runtime.files import read_text

logger = logging.getLogger(__name__)

UNKNOWN_SECONDS = 300.0  # life of a token that does not say when it ends
RENEW_AT = 0.75  # of its life; brokers ask for a new one at 0.85 to 0.95 of it
RETRY_SECONDS = (1.0, 30.0)  # between two attempts to renew: at first, and at most
COMMAND_SECONDS = 30.0
_MOST_TOKEN = 64 << 10

Token = tuple[str, float]  # and the seconds that it lives from now on


@dataclass(frozen=True)
class TokenSettings:
    """Where tokens come from: exactly one of `url`, `command`, `file` and `aws_region`.

    Parameters
    ----------
    url, client, secret, scope
        A token endpoint (OAuth 2.0 client credentials, RFC 6749 4.4), and who we are to it.
    command
        A program and its arguments, as a shell would split them (there is no shell); it prints the token, or JSON
        with `access_token` and maybe `expires_in`.
    file
        A file that somebody else renews, as Kubernetes does; read anew before the token in it ends.
    aws_region
        Amazon MSK's IAM: a token signed with the credentials that AWS's tools would find.
    ca
        Authorities to trust at the token endpoint (PEM); None = the system's.
    extensions
        NAME=VALUE words between commas, sent beside each token (Confluent Cloud's ``logicalCluster``, ...).
    """

    url: str | None = None
    client: str | None = None
    secret: SecretStr | None = None
    scope: str | None = None
    command: SecretStr | None = None
    file: Path | None = None
    aws_region: str | None = None
    ca: Path | None = None
    extensions: str | None = None

    def __post_init__(self) -> None:
        ways = {
            "sasl_token_url": self.url,
            "sasl_token_command": self.command,
            "sasl_token_file": self.file,
            "sasl_aws_region": self.aws_region,
        }
        given = [name for name, value in ways.items() if value is not None]
        if len(given) != 1:
            raise ConfigError(
                f"OAUTHBEARER needs one source of tokens, not {' and '.join(given) or 'none'}: set one of "
                f"{', '.join(ways)}"
            )
        if self.url is not None:
            check_address(self.url, "sasl_token_url")
            if not self.client or self.secret is None:
                raise ConfigError(
                    "sasl_token_url needs the client's id (sasl_username) and its secret (sasl_password_file)"
                )
        parse_extensions(self.extensions)
        if self.command is not None:
            split_command(self.command)

    def source(self) -> tuple[str, Callable[[], Token]]:
        """Return what the source is called in errors, and what fetches a token."""
        if self.url is not None:
            return f"token endpoint {self.url}", self._from_endpoint
        if self.command is not None:
            return "sasl_token_command", self._from_command
        if self.file is not None:
            return f"sasl_token_file {self.file}", self._from_file
        return f"AWS credentials for region {self.aws_region}", self._from_aws

    def _from_endpoint(self) -> Token:
        assert self.url is not None
        assert self.client is not None
        assert self.secret is not None
        what = f"token endpoint {self.url}"
        form = {"grant_type": "client_credentials"} | ({"scope": self.scope} if self.scope else {})
        quote = urllib.parse.quote_plus  # RFC 6749 2.3.1: each is form-encoded first
        login = quote(self.client), quote(self.secret.get_secret_value())
        status, answer = ask(
            self.url,
            what,
            body=urllib.parse.urlencode(form).encode(),
            kind="application/x-www-form-urlencoded",
            login=login,
            tls=trusting(self.ca, "sasl_token_ca"),
        )
        if status in (400, 401, 403):
            said = answer.get("error") if isinstance(answer, dict) else None
            raise LogError(
                f"{what}: it refused client {self.client!r} ({status}{f', {said!r:.60}' if said else ''}); check "
                "sasl_username, its secret and sasl_scope"
            )
        if status != 200:
            raise LogError(f"{what}: it answered {status}; check the address")
        return _token_of(answer, what)

    def _from_command(self) -> Token:
        assert self.command is not None
        words = split_command(self.command)
        what = "sasl_token_command"
        try:
            done = subprocess.run(
                words, stdin=subprocess.DEVNULL, capture_output=True, timeout=COMMAND_SECONDS, check=False
            )
        except OSError as error:
            raise LogError(f"{what}: {words[0]}: {error.strerror}; name a program") from None
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"{what}: no answer within {COMMAND_SECONDS:.0f} s") from None
        if done.returncode != 0:  # what it printed may hold secrets
            raise UnavailableError(f"{what}: it ended with {done.returncode}; run it by hand to see why")
        return _token_of(_maybe_json(done.stdout), what)

    def _from_file(self) -> Token:
        assert self.file is not None
        what = f"sasl_token_file {self.file}"
        return _token_of(_maybe_json(read_text(self.file, what).encode()), what)

    def _from_aws(self) -> Token:
        provider = need("aws_msk_iam_sasl_signer.MSKAuthTokenProvider", "msk", "sasl_aws_region")
        try:
            token, ends = provider.generate_auth_token(self.aws_region)
        except Exception as error:  # of botocore's, which has many; their texts name no secret
            raise LogError(
                f"AWS credentials for region {self.aws_region}: none can be used ({type(error).__name__}); set them "
                "as for AWS's own tools (AWS_PROFILE, AWS_ROLE_ARN, the instance's role, ...)"
            ) from None
        return str(token), ends / 1000 - time.time()


class Tokens(AbstractTokenProvider):  # type: ignore[misc]
    """Hands out the newest token; a thread renews it before it ends.

    The client asks inside its event loop, which must not wait for a token endpoint. So `ready` fetches the first one
    before the client is made, and the thread all others. Where none can be got in time, connections fail and are
    tried again, as where a broker is away.
    """

    def __init__(self, settings: TokenSettings) -> None:
        super().__init__()
        self._what, self._fetch = settings.source()
        self._extensions = parse_extensions(settings.extensions)
        self._lock = threading.Lock()
        self._token, self._ends, self._due = "", 0.0, 0.0
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def ready(self) -> None:
        """Fetch a token unless there is one that lives; raise what prevents it."""
        with self._lock:
            if time.monotonic() >= self._ends:
                self._renew()
            if self._thread is None:
                self._thread = threading.Thread(target=self._keep, name="tokens", daemon=True)
                self._thread.start()

    def token(self) -> str:
        """Return the newest token; KafkaConnectionError, as for a broker that is away, where it has ended."""
        if time.monotonic() >= self._ends:
            raise errors.KafkaConnectionError(f"no token: {self._what} gives none since the last one ended")
        return self._token

    def close(self) -> None:
        """End the thread; without this it ends with the process."""
        self._closed.set()

    def extensions(self) -> dict[str, str]:
        return self._extensions

    def __repr__(self) -> str:
        return f"Tokens({self._what})"

    def _renew(self) -> None:
        token, seconds = self._fetch()
        if seconds <= 0:
            raise UnavailableError(f"{self._what}: its token has ended already; check this machine's clock")
        self._token, self._ends = token, time.monotonic() + seconds
        self._due = time.monotonic() + max(RENEW_AT * seconds, RETRY_SECONDS[0])

    def _keep(self) -> None:
        pause = RETRY_SECONDS[0]
        while not self._closed.wait(max(self._due - time.monotonic(), 0.05)):
            try:
                self._renew()
            except StreamMoeError as error:
                left = max(self._ends - time.monotonic(), 0.0)
                logger.warning("no new token, the old one lives %.0f s; tried again: %s", left, error)
                self._due, pause = time.monotonic() + pause, min(2 * pause, RETRY_SECONDS[1])
            else:
                pause = RETRY_SECONDS[0]


@lru_cache(maxsize=16)
def tokens(settings: TokenSettings) -> Tokens:
    """Return the provider of these settings: every client of a process shares one."""
    return Tokens(settings)


def parse_extensions(text: str | None) -> dict[str, str]:
    """Take NAME=VALUE words between commas apart.

    >>> parse_extensions("logicalCluster=lkc-1,identityPoolId=pool-2")
    {'logicalCluster': 'lkc-1', 'identityPoolId': 'pool-2'}
    """
    found = {}
    for word in (text or "").split(","):
        name, equals, value = (part.strip() for part in word.partition("="))
        if word.strip() and not (equals and name.isalpha() and value.isprintable() and name.lower() != "auth"):
            raise ConfigError(
                f"sasl_extensions {word.strip()!r}: write NAME=VALUE, the name of letters, and not auth"
            )
        if name:
            found[name] = value
    return found


def split_command(command: SecretStr) -> list[str]:
    """Split a command as a shell would; ConfigError, which does not repeat it, where it cannot be."""
    try:
        words = shlex.split(command.get_secret_value())
    except ValueError as error:
        raise ConfigError(f"sasl_token_command: {str(error).lower()}") from None
    if not words:
        raise ConfigError("sasl_token_command: it is empty; name a program")
    return words


def _maybe_json(printed: bytes) -> Any:
    try:
        text = printed.decode().strip()
        return json.loads(text) if text.startswith("{") else {"access_token": text}
    except (ValueError, RecursionError):
        return None


def _token_of(answer: Any, what: str) -> Token:
    """Return the token in an answer and how long it lives: as it says, as the token itself says, or a default."""
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or not token or len(token) > _MOST_TOKEN or not _is_printed(token):
        raise LogError(f"{what}: it gave no token (printable ASCII, or JSON with access_token)")
    life = answer.get("expires_in")
    if isinstance(life, str) and life.isdecimal():
        life = int(life)
    if isinstance(life, int | float) and 0 < life < 1e9:
        return token, float(life)
    return token, _life_of(token)


def _is_printed(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token


def _life_of(token: str) -> float:
    """Return how long a JSON web token lives, by the time in it that it ends; nothing is verified."""
    try:
        middle = token.split(".")[1]
        ends = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))["exp"]
        return float(ends) - time.time()
    except (IndexError, ValueError, KeyError, TypeError, RecursionError):
        return UNKNOWN_SECONDS
