"""A broker that lets in whoever has a token (OAUTHBEARER, unsecured), and an endpoint that gives tokens."""

from __future__ import annotations

import base64
import json
import threading
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.kafka.broker import Broker

CLIENT, SECRET = "stream-moe", "canary/secret:1 %"  # each sign must survive the encoding of the login

_PROPERTIES = """
sasl.enabled.mechanisms=OAUTHBEARER
listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config=\
org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub="broker";
connections.max.reauth.ms=60000
"""


def token(seconds: float, subject: str = "alice") -> str:
    """An unsecured JSON web token that ends in so many seconds."""
    now = time.time()
    parts: list[dict[str, Any]] = [{"alg": "none"}, {"sub": subject, "iat": now - 60, "exp": now + seconds}]
    return ".".join(_encoded(json.dumps(part)) for part in parts) + "."


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


class TokenBroker(Broker):
    """A broker whose `sasl_bootstrap` takes unsecured tokens, and ends a connection whose token has ended."""

    def __init__(self) -> None:
        super().__init__(properties=_PROPERTIES)


class TokenEndpoint:
    """Gives tokens for client credentials, as RFC 6749 has it.

    Attributes
    ----------
    given
        The tokens, oldest first.
    seconds
        How long the next ones live.
    answer
        Status and content to answer with instead; None = right.
    """

    def __init__(self, seconds: float = 3600) -> None:
        self.given: list[str] = []
        self.seconds = seconds
        self.answer: tuple[int, bytes] | None = None
        self.scopes: list[str] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                status, content = endpoint._answer(self.headers["Authorization"], self._body())
                self.send_response(status)
                self.send_header("Location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(content)

            def _body(self) -> str:
                return self.rfile.read(int(self.headers["Content-Length"])).decode()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/token"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, login: str, body: str) -> tuple[int, bytes]:
        if self.answer is not None:
            return self.answer
        form = urllib.parse.parse_qs(body)
        assert form["grant_type"] == ["client_credentials"]
        self.scopes += form.get("scope", [])
        user, _, secret = base64.b64decode(login.removeprefix("Basic ")).decode().partition(":")
        if tuple(map(urllib.parse.unquote_plus, (user, secret))) != (CLIENT, SECRET):
            return 401, b'{"error": "invalid_client"}'
        self.given.append(token(self.seconds))
        answer = {"access_token": self.given[-1], "token_type": "Bearer", "expires_in": self.seconds}
        return 200, json.dumps(answer).encode()
