"""Who may read the metrics: TLS and basic authentication for the HTTP server.

The file of users is a standard htpasswd file with bcrypt hashes (`htpasswd -B FILE USER`). Without htpasswd,
`python -P -m stream_moe.telemetry.access USER` asks for the password and prints such a line.
"""

from __future__ import annotations

import base64
import binascii
import getpass
import hashlib
import hmac
import ipaddress
import logging
import os
import re
import secrets
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from stream_moe.errors import ConfigError
from stream_moe.runtime.files import read_text
from stream_moe.telemetry.budgets import network_of

logger = logging.getLogger(__name__)
Matches = Callable[[str], bool]  # whether a password is the one of a hash

ENVIRONMENT = "STREAM_MOE_METRICS_AUTH"
_LONGEST = 72  # bytes of a password that bcrypt reads
_MOST_ROUNDS = 14  # about a second a try; a connection has five
_MEMORY = 64 << 20  # bytes that a hash of scrypt may take
_MAKE = "htpasswd -B FILE USER, or python -P -m stream_moe.telemetry.access USER"
_MOST_CHECKED, _MOST_OF_ONE = 16, 3  # guesses that may wait for their check, and of one address
_PAUSE = 4  # after a wrong password, in times of what checking it took: guessing costs a fifth of a core at most


def hash_password(password: str, rounds: int = 12) -> str:
    """Hash a password for the file of users, as `htpasswd -B` does; `rounds` is the binary logarithm of the work.

    ConfigError for one that bcrypt cannot take whole.

    Examples
    --------
    >>> hash_password("hush", rounds=4)[:7]
    '$2b$04$'
    """
    if len(password.encode()) > _LONGEST or "\0" in password:
        raise ConfigError(f"a password of more than {_LONGEST} bytes, or with a NUL: bcrypt leaves the rest out")
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(rounds)).decode()


def _of_bcrypt(text: str) -> Matches:
    """Read a hash of a standard htpasswd file."""
    kind = re.fullmatch(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}", text)
    if kind is None or not 4 <= int(kind[1]) <= _MOST_ROUNDS:
        raise ValueError

    def matches(password: str) -> bool:
        try:
            return bcrypt.checkpw(password.encode()[:_LONGEST], text.encode())  # htpasswd cuts it off as well
        except ValueError:  # a NUL, which no hash is of
            return False

    return matches


def _of_scrypt(text: str) -> Matches:
    """Read a hash of our own kind, as lines had it before; whoever has such a file keeps his access."""
    _, log_n, *factors, encoded_salt, encoded_key = text.split("$")
    n, (r, p) = 1 << min(int(log_n), 30), map(int, factors)
    salt, key = _decode(encoded_salt), _decode(encoded_key)
    # Bounded before anything of that size is allocated.
    fits = n > 1 and r > 0 and p > 0 and 128 * n * r * p < _MEMORY
    if not fits or len(key) != 32 or len(salt) < 8:
        raise ValueError

    def matches(password: str) -> bool:
        found = hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=_MEMORY, dklen=32)
        return hmac.compare_digest(found, key)

    return matches


class BasicAuth:
    """User names with the hashes of their passwords (RFC 7617).

    `lines` are `user:hash` each, as `htpasswd -B` writes them; empty ones and comments (#) are skipped. ConfigError,
    which names their `source`, where a line is none, or there is none.

    A header that was right is remembered as a digest under a key of this process, so that scrapes many times a
    second do not cost a hash each. Wrong ones are checked one at a time, with a pause behind each.
    """

    def __init__(self, lines: str, source: str) -> None:
        self._users: dict[str, Matches] = {}
        self._key = secrets.token_bytes(32)
        self._right: set[bytes] = set()
        self._one_at_a_time = threading.Lock()
        self._checking: Counter[str] = Counter()  # by address
        self._checking_lock = threading.Lock()
        for number, line in enumerate(lines.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            user, _, text = line.strip().partition(":")
            try:
                if not user:
                    raise ValueError
                self._users[user] = _of_scrypt(text) if text.startswith("scrypt$") else _of_bcrypt(text)
            except ValueError:  # without the line: somebody may have put a password there
                raise ConfigError(
                    f"{source}, line {number}: not USER:HASH with a hash of bcrypt of at most {_MOST_ROUNDS} rounds; "
                    f"make it with {_MAKE}"
                ) from None
        if not self._users:
            raise ConfigError(f"{source}: no users; add one with {_MAKE}")

    def permits(self, header: str | None, address: str = "") -> bool:
        """Check the value of the header Authorization.

        A guess from an `address` ("" = nobody's) that has enough of them waiting is wrong, whatever it says.
        """
        scheme, _, value = (header or "").partition(" ")
        if scheme.lower() != "basic" or len(value) > 1024:
            return False
        digest = hmac.digest(self._key, value.strip().encode(), "sha256")
        # Nobody knows the key, so the time that this comparison takes gives nothing away.
        if digest in self._right:
            return True
        try:
            user, _, password = _decode(value.strip()).decode().partition(":")
        except ValueError:
            return False
        who = network_of(address)
        with self._checking_lock:
            if address and (self._checking[who] >= _MOST_OF_ONE or self._checking.total() >= _MOST_CHECKED):
                return False  # a thread that waited would be one less for the others
            self._checking[who] += 1
        try:
            return self._check(user, password, digest)
        finally:
            with self._checking_lock:
                self._checking[who] -= 1
                self._checking += Counter()  # forgets the address where it was the last

    def _check(self, user: str, password: str, digest: bytes) -> bool:
        with self._one_at_a_time:
            began = time.perf_counter()
            # A user who is not there takes as long as one who is.
            somebody = next(iter(self._users.values()))
            if self._users.get(user, somebody)(password) and user in self._users:
                self._right.add(digest)
                return True
            _pause(_PAUSE * (time.perf_counter() - began))
        return False


class Tls:
    """The server's certificate and key (PEM), read again when the files change; ConfigError where they are no use.

    The key is in the certificate's file unless it has its own.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._files = [certificate, *([key] if key else [])]
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._read_at = self._times()
        try:
            self._load()
        except OSError as error:
            reason = error.reason if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(
                f"--metrics-cert {certificate}, --metrics-key {key or 'in the same file'}: "
                f"{(reason or 'cannot be decrypted').lower().replace('_', ' ')}; both must be PEM and belong "
                "together, and the key must not be encrypted"
            ) from None

    def context(self) -> ssl.SSLContext:
        """Give the context for the next connection; a renewed certificate counts from here on."""
        times = self._times()
        if times != self._read_at:
            self._read_at = times
            try:
                self._load()
                logger.info("read the renewed certificate %s", self._files[0])
            except OSError as error:  # half written, say: its completion changes the time again
                logger.warning("the new certificate %s cannot be used, the former stays: %s", self._files[0], error)
        return self._context

    def _load(self) -> None:
        # Without a password the library would ask for one on the terminal.
        self._context.load_cert_chain(self._files[0], self._files[-1], password="")

    def _times(self) -> list[int]:
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in self._files]


@dataclass(frozen=True)
class Access:
    """How the HTTP server is protected; by default it is not, and listens on loopback."""

    tls: Tls | None = None
    auth: BasicAuth | None = None

    def exposure(self, host: str) -> str | None:
        """Name what is open to others when listening on `host`; None where nothing is."""
        if _is_loopback(host) or (self.tls and self.auth):
            return None
        if self.auth is None:
            return "anybody who reaches this address can read the metrics; set --metrics-auth-file, or bind 127.0.0.1"
        return "passwords come over the network in the clear; set --metrics-cert and --metrics-key"


def load_access(
    certificate: Path | None, key: Path | None, users: Path | None, environment: Mapping[str, str] | None = None
) -> Access:
    """Read the files of the options, and STREAM_MOE_METRICS_AUTH (lines `user:hash`); ConfigError if one is wrong."""
    environment = os.environ if environment is None else environment
    if key is not None and certificate is None:
        raise ConfigError(f"--metrics-key {key} without --metrics-cert; name the certificate too")
    auth = None
    if users is not None:
        source = f"--metrics-auth-file {users}"
        auth = BasicAuth(read_text(users, source, "utf-8-sig"), source)
    elif ENVIRONMENT in environment:
        auth = BasicAuth(environment[ENVIRONMENT], ENVIRONMENT)
    return Access(Tls(certificate, key) if certificate else None, auth)


def _pause(seconds: float) -> None:
    time.sleep(seconds)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError from error


def main() -> None:
    """Print a line for the file of users; the password comes from the terminal, or as a line on stdin."""
    if len(sys.argv) != 2 or not sys.argv[1] or ":" in sys.argv[1]:
        sys.exit("usage: python -P -m stream_moe.telemetry.access USER   (asks for the password)")
    password = getpass.getpass() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not password:
        sys.exit("an empty password protects nothing")
    try:
        print(f"{sys.argv[1]}:{hash_password(password)}")
    except ConfigError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
