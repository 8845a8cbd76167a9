"""One request to a service over HTTP that answers in JSON: verified TLS, no redirects, a bounded answer."""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from stream_moe.errors import ConfigError, LogError, UnavailableError, one_line

SECONDS = 10.0  # an answer takes at most about this long
MOST_BYTES = 4 << 20
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """An answer that leads elsewhere is an answer: credentials do not follow it."""

    def redirect_request(self, *_: Any) -> None:
        return None


def check_address(url: str, what: str) -> None:
    """Raise ConfigError unless an address is https, or http on this machine, without a user or password in it."""
    parts = urllib.parse.urlsplit(url)
    if "@" in parts.netloc or parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigError(f"{what}: https://HOST/PATH without a user or password; those have settings of their own")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigError(
            f"{what}: http://{parts.netloc} would be read on the way; use https (http is for localhost)"
        )


def trusting(ca: Path | None, what: str) -> ssl.SSLContext:
    """Return a client's TLS that trusts the system's authorities, or those of a PEM file alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca is None:
            context.load_default_certs()
        else:
            context.load_verify_locations(ca)
    except OSError as error:  # an ssl.SSLError is one, too
        raise ConfigError(
            f"{what}: {ca} cannot be read ({reason_of(error)}); it must hold certificates in PEM"
        ) from None
    return context


def reason_of(error: OSError) -> str:
    """Say in a few words why the ssl library could not load a file."""
    reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
    return (reason or "it cannot be decrypted or read").lower().replace("_", " ")


def ask(
    url: str,
    what: str,
    *,
    body: bytes | None = None,
    kind: str = "application/json",
    login: tuple[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> tuple[int, Any]:
    """Send a GET, or a POST where there is a `body`, and return status and JSON of the answer.

    Parameters
    ----------
    url, what
        Where to, and what begins an error.
    body, kind
        What is sent, and its content type.
    login
        User and password for HTTP basic authentication.
    tls
        What to trust; None = the system's authorities.

    Raises
    ------
    UnavailableError
        Where nothing answers, or the service says that it cannot now (5xx, 429): the same again, later, may do.
    LogError
        Where its certificate is not accepted, it leads elsewhere, or does not answer in JSON.
    """
    headers = {"Accept": "application/json", "Content-Type": kind}
    if login is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(':'.join(login).encode()).decode()}"
    request = urllib.request.Request(url, body, headers)  # noqa: S310  # `check_address` allows http(s) alone
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.HTTPSHandler(context=tls))
    try:
        with opener.open(request, timeout=SECONDS) as answer:
            status, content = answer.status, answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        with error:
            status, content = error.code, error.read(MOST_BYTES + 1)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise LogError(f"{what}: its certificate is not accepted ({reason.verify_message})") from None
        raise UnavailableError(f"{what}: no answer ({one_line(error) or type(error).__name__})") from None
    if status >= 500 or status == 429:
        raise UnavailableError(f"{what}: it answered {status}")
    if 300 <= status < 400:
        raise LogError(f"{what}: it answered {status}, which leads elsewhere; name the address itself")
    try:
        if len(content) > MOST_BYTES:
            raise ValueError
        return status, json.loads(content or b"null")
    except (ValueError, RecursionError):
        raise LogError(f"{what}: it answered {status} without JSON of at most {MOST_BYTES >> 20} MiB") from None
