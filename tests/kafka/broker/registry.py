"""A real schema registry for tests (Apicurio, with Confluent's API), from an archive that Maven fetches once."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import signal
import subprocess
import tarfile
import tempfile
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.certificates import Authority
from tests.kafka.broker import CACHE, START_SECONDS, free_ports

VERSION = "2.6.13.Final"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
_JAR = f"apicurio-registry-app-{VERSION}-runner.jar"
_MAVEN_SECONDS = 600


def folder() -> Path:
    """Give the folder of the registry, fetched by Maven when it is not there yet."""
    found = CACHE / f"apicurio-{VERSION}"
    if not found.is_dir():
        CACHE.mkdir(exist_ok=True)
        fetched = Path(tempfile.mkdtemp(dir=CACHE))
        command = ["mvn", "-q", "-B", "dependency:copy", f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={fetched}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MAVEN_SECONDS, check=False)
        if done.returncode != 0:
            shutil.rmtree(fetched)
            raise RuntimeError(f"Maven could not fetch the registry:\n{(done.stdout + done.stderr)[-4000:]}")
        (archive,) = fetched.glob("*.tar.gz")
        with tarfile.open(archive) as content:
            content.extractall(fetched, filter="data")
        archive.unlink()
        try:  # renamed when whole, as the broker's jars
            fetched.rename(found)
        except OSError:
            shutil.rmtree(fetched)
    return found


class Registry:
    """A registry in a process of its own, which forgets everything when it ends.

    Attributes
    ----------
    url
        Of Confluent's API.
    """

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}/apis/ccompat/v7"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["-Xmx256m", "-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self.port}"]
        self._process = subprocess.Popen(
            ["java", *options, "-jar", str(folder() / _JAR)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self._process.poll() is None, "the registry did not start"
            assert time.monotonic() < deadline, "the registry does not answer"
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/subjects", timeout=5):
                return
            time.sleep(0.2)

    def pause(self) -> None:
        """Stop it where it stands: connections stay open and nothing answers. `resume` goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def schemas(self) -> dict[str, str]:
        """Kind of the newest schema by subject."""
        return {subject: self._kind(subject) for subject in self._get("/subjects")}

    def _kind(self, subject: str) -> str:
        return str(self._get(f"/subjects/{subject}/versions/latest").get("schemaType", "AVRO"))

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            return json.load(answer)


class Guard:
    """Stands before a registry: TLS, and a user with a password.

    Attributes
    ----------
    url, authority
        Of the API behind it, and whom to trust.
    """

    def __init__(self, registry: Registry, directory: Path, user: str, password: str) -> None:
        import ssl

        self.authority = Authority(directory)
        certificate, key = self.authority.issue("registry")
        self.away = False  # answers 503
        guard = self
        expected = f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._pass(None)

            def do_POST(self) -> None:
                self._pass(self.rfile.read(int(self.headers["Content-Length"])))

            def _pass(self, body: bytes | None) -> None:
                status, content = 401, b'{"error_code": 401}'
                if guard.away:
                    status, content = 503, b"later"
                elif self.headers.get("Authorization") == expected:
                    headers = {"Content-Type": self.headers["Content-Type"]}
                    request = urllib.request.Request(f"http://127.0.0.1:{registry.port}{self.path}", body, headers)
                    try:
                        with urllib.request.urlopen(request, timeout=10) as answer:
                            status, content = answer.status, answer.read()
                    except urllib.error.HTTPError as error:
                        status, content = error.code, error.read()
                self.send_response(status)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}/apis/ccompat/v7"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
