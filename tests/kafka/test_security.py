"""TLS, SCRAM, mutual TLS and access lists on a real broker: the right way in, and what every wrong one says."""

from __future__ import annotations

import base64
import io
import logging
import os
import subprocess
import time
import traceback
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka.admin import ACLOperation as Operation
from kafka.admin import ResourceType as Kind
from pydantic import SecretStr

from connectors.kafka import KafkaSettings, partition_counts
from stream_moe.errors import LogError
from stream_moe.telemetry.access import hash_password
from stream_moe.telemetry.logs import setup_logging
from tests.certificates import Authority
from tests.kafka.broker import missing_tools
from tests.kafka.broker.secured import SecuredBroker
from tests.kafka.daemons import stream_moe
from tests.kafka.steps import committed_records

pytestmark = pytest.mark.kafka

PASSWORD, WRONG, PHRASE = "canary-right-5d81", "canary-wrong-77a0", "canary-phrase-e13c"
HTTP_PASSWORD = "canary-http-91b2"
PREFIX = "secured."
EVENTS = 500
RIGHTS = {
    Kind.TOPIC: (Operation.READ, Operation.WRITE, Operation.DESCRIBE, Operation.CREATE),
    Kind.GROUP: (Operation.READ,),
    Kind.TRANSACTIONAL_ID: (Operation.WRITE, Operation.DESCRIBE),
}


@dataclass(frozen=True)
class Secured:
    broker: SecuredBroker
    authority: Authority
    directory: Path

    def scram(self, password: str = PASSWORD, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """The environment of user alice."""
        (self.directory / "password").write_text(password + "\n")
        return {
            "BOOTSTRAP": self.broker.scram,
            "SECURITY_PROTOCOL": "SASL_SSL",
            "SSL_CA": str(self.authority.certificate),
            "SASL_MECHANISM": mechanism,
            "SASL_USERNAME": "alice",
            "SASL_PASSWORD_FILE": str(self.directory / "password"),
        }

    def mutual(self, client: str | None) -> dict[str, str]:
        """The environment of the client that holds this certificate."""
        ours = {} if client is None else {
            "SSL_CERT": str(self.directory / f"{client}.pem"), "SSL_KEY": str(self.directory / f"{client}.key")
        }  # fmt: skip
        trusted = str(self.authority.certificate)
        return {"BOOTSTRAP": self.broker.mutual, "SECURITY_PROTOCOL": "SSL", "SSL_CA": trusted} | ours


@contextmanager
def secured_broker(directory: Path) -> Iterator[Secured]:
    """A broker with users, certificates and access lists, and the certificates of clients."""
    authority = Authority(directory)
    broker = SecuredBroker(authority, directory, {"alice": PASSWORD})
    try:
        broker.start()
        authority.issue("client", passphrase=PHRASE)
        authority.issue("late", days=-1)
        Authority(directory, "stranger-authority").issue("stranger")
        for principal in ("User:alice", "User:CN=client"):
            for kind, operations in RIGHTS.items():
                broker.permit(principal, kind, PREFIX, *operations)
        yield Secured(broker, authority, directory)
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    missing = missing_tools()
    if missing and "CI" not in os.environ:
        pytest.skip(f"no {' and no '.join(missing)} here to start an Apache Kafka broker with")
    with secured_broker(tmp_path_factory.mktemp("secured")) as found:
        yield found


def finish(process: subprocess.Popen[str], code: int = 0) -> str:
    """Wait for the end, check the exit code and that no secret was printed; give what stderr has."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, out + err
    assert "canary" not in out + err
    return err


def produce_arguments(name: str) -> list[str]:
    return ["electricity", "--events", str(EVENTS), "--topic", f"{PREFIX}{name}"]


def run_arguments(name: str, state: Path) -> list[str]:
    topics = ["--topic", f"{PREFIX}{name}", "--predictions", f"{PREFIX}{name}.predictions"]
    topics += ["--dead-letters", f"{PREFIX}{name}.dead-letters", "--group", f"{PREFIX}{name}.group"]
    return [*topics, "--state-dir", str(state), "--metrics-port", "0", "--model", "naive-bayes"]


def get(url: str) -> str:
    token = base64.b64encode(f"scraper:{HTTP_PASSWORD}".encode()).decode()
    request = urllib.request.Request(url, headers={"Authorization": f"Basic {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def predictions(secured: Secured, name: str) -> int:
    settings = KafkaSettings(secured.broker.bootstrap, f"{PREFIX}{name}")
    return len(list(committed_records(settings, f"{PREFIX}{name}.predictions")))


@pytest.mark.parametrize("way", ["SCRAM-SHA-512", "SCRAM-SHA-256", "mutual TLS"])
def test_the_right_credentials_work_from_end_to_end(secured: Secured, way: str, tmp_path: Path) -> None:
    if way == "mutual TLS":
        environment = secured.mutual("client") | {"SSL_KEY_PASSWORD": PHRASE}
    else:
        environment = secured.scram(mechanism=way)
    name = way.replace(" ", "-")
    finish(stream_moe("produce", *produce_arguments(name), kafka=environment))
    finish(stream_moe("run", *run_arguments(name, tmp_path), "--until-caught-up", kafka=environment))
    assert predictions(secured, name) == EVENTS


WRONG_WAYS = {
    "wrong password": ("refused user 'alice'", "check the user name, the password"),
    # Where the client loses the broker's reason (see internals.py), only the refusal is known.
    "unknown mechanism": ("PLAIN", "mechanism"),
    "unknown authority": ("unable to get local issuer certificate", "trust the authority that signed it"),
    "expired certificate": ("certificate has expired", "have it renewed"),
    "no certificate": ("asks for a client certificate", "set ssl_cert and ssl_key"),
    "expired certificate of ours": ("refused our certificate", "renew it"),
    "certificate of a stranger": ("refused our certificate", "have the broker trust its authority"),
    "wrong passphrase": ("cannot be decrypted", "needs the right ssl_key_password"),
    "no right": ("not permitted", "ask for the right in the broker's access lists"),
}


def wrong_way(secured: Secured, way: str) -> dict[str, str]:
    match way:
        case "wrong password":
            return secured.scram(password=WRONG)
        case "unknown mechanism":
            return secured.scram(mechanism="PLAIN")
        case "unknown authority":
            return secured.scram() | {"SSL_CA": str(secured.directory / "stranger-authority.pem")}
        case "expired certificate":
            return secured.mutual("late") | {"BOOTSTRAP": secured.broker.expired}
        case "no certificate":
            return secured.mutual(None)
        case "expired certificate of ours":
            return secured.mutual("late")
        case "certificate of a stranger":
            return secured.mutual("stranger")
        case "wrong passphrase":
            return secured.mutual("client") | {"SSL_KEY_PASSWORD": WRONG}
        case _:
            return secured.scram()


@pytest.mark.parametrize("way", WRONG_WAYS)
def test_a_wrong_way_in_is_one_line_that_names_the_way_out(secured: Secured, way: str) -> None:
    arguments = produce_arguments("wrong")
    if way == "no right":
        arguments[-1] = "somebody-else's"
    began = time.monotonic()
    err = finish(
        stream_moe("produce", *arguments, kafka=wrong_way(secured, way)), 2 if way == "wrong passphrase" else 3
    )
    # The client alone would try for 8 s; the bound only says that it did not, whatever else the machine does.
    assert time.monotonic() - began < 20
    assert len(err.splitlines()) == 1, err
    for said in WRONG_WAYS[way]:
        assert said in err


@contextmanager
def without(secured: Secured, kind: Kind) -> Iterator[None]:
    """Take the rights on one kind of thing from alice, and give them back."""
    secured.broker.revoke("User:alice", kind, PREFIX)
    try:
        yield
    finally:
        secured.broker.permit("User:alice", kind, PREFIX, *RIGHTS[kind])


@pytest.mark.parametrize("kind", RIGHTS, ids=lambda kind: kind.name.lower())
def test_a_right_that_is_taken_away_ends_the_daemon(secured: Secured, kind: Kind, tmp_path: Path) -> None:
    environment, name = secured.scram(), f"revoked-{kind.name}"
    administrator = {"BOOTSTRAP": secured.broker.bootstrap}
    finish(stream_moe("produce", *produce_arguments(name), kafka=environment))
    users = tmp_path / "users"
    users.write_text(f"scraper:{hash_password(HTTP_PASSWORD)}\n")
    arguments = run_arguments(name, tmp_path / "state")
    daemon = stream_moe("run", *arguments, "--metrics-auth-file", str(users), kafka=environment)
    assert daemon.stderr is not None
    page = next(part for line in daemon.stderr for part in line.split() if part.startswith("metrics="))
    url = page.removeprefix("metrics=")
    seen, deadline = "", time.monotonic() + 60
    while f'stream_moe_predictions_committed_total{{partition="0"}} {EVENTS}.0' not in seen:
        assert daemon.poll() is None
        assert time.monotonic() < deadline, seen
        seen = get(f"{url}metrics")
        time.sleep(0.1)
    # The canary: nothing that the daemon shows of itself while it runs has the password.
    shown = [seen, get(url)]
    shown.append(Path(f"/proc/{daemon.pid}/cmdline").read_text())
    shown.append(subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(daemon.pid)], capture_output=True, text=True,
                                check=True).stdout)  # fmt: skip
    with without(secured, kind):
        if kind is Kind.TRANSACTIONAL_ID:  # asked for by the next commit only
            finish(stream_moe("produce", *produce_arguments(name), kafka=administrator))
        err = finish(daemon, 3)
    last = err.splitlines()[-1]
    assert last.startswith("stream-moe: ")
    assert "not permitted" in last
    assert "ask for the right" in last
    assert predictions(secured, name) == EVENTS
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".ckpt" for path in files), "nothing was checkpointed"
    shown += [path.read_bytes().decode("latin-1") for path in files]
    assert not [text for text in shown if "canary" in text]


@pytest.mark.parametrize("password", [PASSWORD, WRONG])
def test_logs_at_debug_have_no_password(secured: Secured, password: str) -> None:
    """Even without a word to the logging that this is a secret, and with the client's loggers turned up."""
    stream = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        setup_logging("DEBUG", stream=stream)
        for name in ("kafka", "kafka.net.connection", "kafka.net.sasl.scram", "kafka.protocol"):
            logging.getLogger(name).setLevel(logging.DEBUG)
        settings = KafkaSettings(
            secured.broker.scram,
            f"{PREFIX}debug",
            security_protocol="SASL_SSL",
            ssl_ca=secured.authority.certificate,
            sasl_username="alice",
            sasl_password=SecretStr(password),
        )
        shown = f"{settings!r} {settings}"
        if password == PASSWORD:
            assert partition_counts(settings, [settings.topic]) == {settings.topic: 0}
        else:
            with pytest.raises(LogError, match="refused user") as caught:
                partition_counts(settings, [settings.topic])
            shown += "".join(traceback.format_exception(caught.value))
    finally:
        root.handlers[:] = before
        root.setLevel(level)
        logging.captureWarnings(False)
        for name in ("kafka", "kafka.net.connection", "kafka.net.sasl.scram", "kafka.protocol"):
            logging.getLogger(name).setLevel(logging.NOTSET)
    assert "kafka." in stream.getvalue()  # it does log
    assert "canary" not in shown + stream.getvalue()
