"""A Schema Registry over HTTP: Confluent's, Redpanda's, Karapace, or Apicurio under /apis/ccompat/v7."""

from __future__ import annotations

import json
import urllib.parse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from ssl import SSLContext
from typing import Any

from pydantic import SecretStr

from connectors.web import ask, check_address, trusting
from stream_moe.errors import ConfigError, LogError
from stream_moe.ports import RegisteredSchema

MOST_IMPORTS = 100  # schemas that one may refer to, and those again
_KINDS = ("AVRO", "PROTOBUF", "JSON")


@dataclass(frozen=True)
class HttpRegistry:
    """Two GETs and a POST of Confluent's API.

    Parameters
    ----------
    url
        Of the API, as https://registry:8081.
    username, password
        For basic authentication; the password is not shown by repr.
    ca
        Authorities to trust (PEM); None = the system's.

    Examples
    --------
    >>> HttpRegistry("https://me:hush@registry")
    Traceback (most recent call last):
    stream_moe.errors.ConfigError: registry: https://HOST/PATH without a user or password; ...
    """

    url: str
    username: str | None = None
    password: SecretStr | None = None
    ca: Path | None = None

    def __post_init__(self) -> None:
        check_address(self.url, "registry")
        if (self.username is None) != (self.password is None):
            raise ConfigError("registry: username and password_file go together; set both, or none")

    def find(self, number: int) -> RegisteredSchema | None:
        """Return the schema of an id, None where there is none; `LogError` as the port says."""
        status, answer = self._ask(f"/schemas/ids/{number}")
        if status == 404:
            return None
        return self._schema(answer, f"schema {number}", {})

    def register(self, subject: str, kind: str, text: str) -> int:
        """Return the id of a schema, which is registered where it is not yet."""
        body = json.dumps({"schema": text} | ({} if kind == "AVRO" else {"schemaType": kind})).encode()
        status, answer = self._ask(f"/subjects/{_quoted(subject)}/versions", body)
        if status in (409, 422):
            said = answer.get("message") if isinstance(answer, dict) else answer
            raise LogError(
                f"schema registry {self.url}: it takes no such schema of {subject!r} ({status}, {said!r:.200}); "
                "write to another topic, or relax the subject's compatibility"
            )
        number = answer.get("id") if isinstance(answer, dict) else None
        if not isinstance(number, int) or not 0 <= number < 1 << 31:
            raise self._strange(f"the registration of {subject!r}")
        return number

    @cached_property
    def _tls(self) -> SSLContext:
        return trusting(self.ca, "registry ca")

    def _ask(self, path: str, body: bytes | None = None) -> tuple[int, Any]:
        login = None
        if self.username is not None and self.password is not None:
            login = self.username, self.password.get_secret_value()
        what = f"schema registry {self.url}"
        kind = "application/vnd.schemaregistry.v1+json"
        status, answer = ask(self.url.rstrip("/") + path, what, body=body, kind=kind, login=login, tls=self._tls)
        if status in (401, 403):
            raise LogError(
                f"{what}: it refused {'us' if self.username is None else f'user {self.username!r}'} ({status}); "
                "check username and password_file of [registry], and the user's rights"
            )
        if status == 404 and isinstance(answer, dict) and "error_code" not in answer:
            raise LogError(f"{what}: there is none under this address; name its path too, as /apis/ccompat/v7")
        return status, answer

    def _schema(self, answer: Any, what: str, seen: dict[tuple[str, int], RegisteredSchema]) -> RegisteredSchema:
        if not isinstance(answer, dict) or not isinstance(text := answer.get("schema"), str):
            raise self._strange(what)
        kind = answer.get("schemaType") or "AVRO"
        if kind not in _KINDS:
            raise LogError(f"schema registry {self.url}: {what} is {kind!r:.40}; read are {', '.join(_KINDS)}")
        imports = []
        for each in answer.get("references") or ():
            name, place = str(each["name"]), (str(each["subject"]), int(each["version"]))
            if place not in seen:
                if len(seen) >= MOST_IMPORTS:
                    raise LogError(f"schema registry {self.url}: {what} refers to more than {MOST_IMPORTS} others")
                seen[place] = RegisteredSchema(kind, "")  # a circle ends here
                _, other = self._ask(f"/subjects/{_quoted(place[0])}/versions/{place[1]}")
                seen[place] = self._schema(other, f"{place[0]!r}, version {place[1]}", seen)
            imports.append((name, seen[place]))
        return RegisteredSchema(kind, text, tuple(imports))

    def _strange(self, what: str) -> LogError:
        return LogError(f"schema registry {self.url}: its answer for {what} is not Confluent's API; check the path")


def _quoted(subject: str) -> str:
    return urllib.parse.quote(subject, safe="")
