"""Avro, Protobuf and JSON Schema with a real registry and a real broker: one state, whatever the format."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest

from connectors.kafka import KafkaSettings
from connectors.registry import HttpRegistry
from stream_moe.formats.framing import HEAD, framed
from tests.kafka.broker import missing_tools
from tests.kafka.broker.registry import Guard, Registry
from tests.kafka.daemons import CLI
from tests.kafka.steps import committed_records, produce

pytestmark = pytest.mark.kafka

EVENTS, PASSWORD = 1000, "canary-registry-77"


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    missing = missing_tools()
    if missing and "CI" not in os.environ:
        pytest.skip(f"no {' and no '.join(missing)} here to start a schema registry with")
    found = Registry()
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def guard(registry: Registry, tmp_path: Path) -> Iterator[Guard]:
    found = Guard(registry, tmp_path, "alice", PASSWORD)
    yield found
    found.close()


class Case:
    """Topics and a state directory of their own."""

    def __init__(self, bootstrap: str, folder: Path) -> None:
        name = f"formats-{uuid.uuid4().hex[:10]}"
        self.settings = KafkaSettings(bootstrap, f"{name}.events", f"{name}.out", f"{name}.bad", f"{name}.group")
        self.state, self.result, self.labels = folder / name, folder / f"{name}.json", f"{name}.labels"

    def produce(self, registry: str, form: str, *more: str) -> None:
        done = self.start("produce", "electricity", "--events", str(EVENTS), "--format", form, "--registry", registry,
                          *more)  # fmt: skip
        out, err = done.communicate(timeout=100)
        assert done.returncode == 0, out + err

    def start(self, verb: str, *more: str, **environment: str) -> subprocess.Popen[str]:
        command = [*CLI, verb, "--bootstrap", self.settings.bootstrap, "--topic", self.settings.topic, *more]
        pipe, ours = subprocess.PIPE, {**os.environ, **environment}
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=ours)

    def run(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        s = self.settings
        return self.start(
            "run", "--predictions", s.predictions, "--dead-letters", s.dead_letters, "--group", s.group,
            "--state-dir", str(self.state), "--json", str(self.result), "--metrics-port", "0", "--model",
            "naive-bayes", *more,
            **environment,
        )  # fmt: skip

    def caught_up(self, *more: str, **environment: str) -> dict[str, Any]:
        daemon = self.run("--until-caught-up", *more, **environment)
        out, err = daemon.communicate(timeout=100)
        assert daemon.returncode == 0, out + err
        self.said = out + err
        found: dict[str, Any] = json.loads(self.result.read_text())
        return found

    def predictions(self) -> list[bytes]:
        return [record.value for record in committed_records(self.settings, self.settings.predictions)]


def test_one_stream_is_one_state_in_each_format(registry: Registry, bootstrap: str, tmp_path: Path) -> None:
    digests, answers = {}, {}
    for form in ("json", "avro", "protobuf", "json-schema"):
        case = Case(bootstrap, tmp_path)
        case.produce(registry.url, form)
        found = case.caught_up("--registry", registry.url)
        assert found["events"] == EVENTS
        assert found["dead_letters"] == {}
        digests[form] = found["state_digest"]
        answers[form] = [json.loads(value)["proba"] for value in case.predictions()]
        kinds = {"avro": "AVRO", "protobuf": "PROTOBUF", "json-schema": "JSON"}
        assert registry.schemas().get(f"{case.settings.topic}-value") == kinds.get(form)
    assert len(set(digests.values())) == 1, digests
    assert all(each == answers["json"] for each in answers.values())


def test_labels_and_predictions_in_avro(registry: Registry, bootstrap: str, tmp_path: Path) -> None:
    results = []
    for form, predictions in (("json", "json"), ("avro", "avro")):
        case = Case(bootstrap, tmp_path)
        case.produce(registry.url, form, "--labels", case.labels)
        more = "--labels", case.labels, "--predictions-format", predictions
        results.append((case, case.caught_up("--registry", registry.url, *more)))
    (plain, one), (avro, other) = results
    assert (one["labels"], other["labels"]) == (EVENTS, EVENTS)
    assert {one["predictions"], other["predictions"]} == {EVENTS}
    values = avro.predictions()
    schema = HttpRegistry(registry.url).find(int.from_bytes(values[0][1:HEAD], "big"))
    assert schema is not None
    parsed = fastavro.parse_schema(json.loads(schema.text))
    read: list[Any] = [fastavro.schemaless_reader(BytesIO(value[HEAD:]), parsed, None) for value in values]
    expected = [json.loads(value) for value in plain.predictions()]
    assert [each["id"] for each in read] == [each["id"] for each in expected]
    assert set(read[0]) == set(expected[0]) == {"id", "class", "proba", "model", "offset", "experts"}


def test_a_registry_that_is_away_is_waited_for(
    guard: Guard, registry: Registry, bootstrap: str, tmp_path: Path
) -> None:
    case = Case(bootstrap, tmp_path)
    case.produce(registry.url, "avro")
    (tmp_path / "password").write_text(PASSWORD)
    login = {"STREAM_MOE_REGISTRY_USERNAME": "alice", "STREAM_MOE_REGISTRY_PASSWORD_FILE": str(tmp_path / "password"),
             "STREAM_MOE_REGISTRY_CA": str(guard.authority.certificate)}  # fmt: skip
    guard.away = True
    daemon = case.run("--registry", guard.url, **login)
    assert daemon.stderr is not None
    said = ""
    for line in daemon.stderr:
        said += line
        if "waits for it" in line:
            break
    assert "it answered 503" in said
    time.sleep(1.0)
    assert daemon.poll() is None
    guard.away = False
    deadline = time.monotonic() + 60
    while len(case.predictions()) < EVENTS:
        assert daemon.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    daemon.terminate()
    out, err = daemon.communicate(timeout=60)
    assert daemon.returncode == 0, err
    assert json.loads(case.result.read_text())["dead_letters"] == {}
    shown = said + out + err + "".join(p.read_text("latin-1") for p in case.state.rglob("*") if p.is_file())
    assert PASSWORD not in shown


@pytest.mark.parametrize(("password", "said"), [("wrong", "it refused user 'alice' (401); check username")])
def test_a_registry_that_refuses_is_one_line(
    guard: Guard, registry: Registry, bootstrap: str, tmp_path: Path, password: str, said: str
) -> None:
    case = Case(bootstrap, tmp_path)
    case.produce(registry.url, "avro")
    login = {"STREAM_MOE_REGISTRY_USERNAME": "alice", "STREAM_MOE_REGISTRY_PASSWORD": password,
             "STREAM_MOE_REGISTRY_CA": str(guard.authority.certificate)}  # fmt: skip
    daemon = case.run("--registry", guard.url, "--quiet", **login)
    _, err = daemon.communicate(timeout=100)
    assert daemon.returncode == 3, err
    assert said in err.splitlines()[-1]
    assert password not in err


def test_what_names_no_schema_or_is_not_of_it_is_a_dead_letter(
    registry: Registry, bootstrap: str, tmp_path: Path
) -> None:
    case = Case(bootstrap, tmp_path)
    case.produce(registry.url, "avro")
    number = HttpRegistry(registry.url).register(f"{case.settings.topic}-value", "AVRO", _text(registry, case))
    bad = [framed(999_999) + b"x", framed(number) + b"\x02", b"\0\0", b'{"id": "last", "x": {"period": 1}}']
    produce(case.settings, bad)
    found = case.caught_up("--registry", registry.url)
    assert found["dead_letters"] == {"unknown-schema": 1, "bad-avro": 1, "bad-framing": 1}
    assert found["predictions"] == EVENTS + 1
    letters = [record.value for record in committed_records(case.settings, case.settings.dead_letters)]
    assert letters == bad[:3]  # their bytes, as they came


def test_without_a_registry_framed_records_are_dead_letters_that_say_so(
    registry: Registry, bootstrap: str, tmp_path: Path
) -> None:
    case = Case(bootstrap, tmp_path)
    case.produce(registry.url, "protobuf")
    found = case.caught_up()
    assert found["dead_letters"] == {"framed": EVENTS}
    assert "name the registry by --registry" in case.said


def _text(registry: Registry, case: Case) -> str:
    return str(registry._get(f"/subjects/{case.settings.topic}-value/versions/latest")["schema"])
