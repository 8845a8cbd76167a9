"""The files under docker/kubernetes, and the profile `group`: valid, at one with each other and with the daemon."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from connectors.kafka.writer import COMMIT_SECONDS
from stream_moe.cli import app
from stream_moe.cli.flags import flags_of
from stream_moe.cli.run import RunSettings
from stream_moe.cli.sources import read
from stream_moe.telemetry import DEFAULT_PORT

DOCKER = Path(__file__).resolve().parents[2] / "docker"
FILES = sorted((DOCKER / "kubernetes").glob("*.yaml"))
OBJECTS: list[dict[str, Any]] = [thing for path in FILES for thing in yaml.safe_load_all(path.read_text())]
BY_KIND = {thing["kind"]: thing for thing in OBJECTS}
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
MEMBERS: dict[str, Any] = BY_KIND["StatefulSet"]["spec"]
POD: dict[str, Any] = MEMBERS["template"]["spec"]
(MEMBER,) = POD["containers"]
LEAVING_SECONDS = 8  # that the source gives the call with which it leaves its group
RUN = typer.main.get_command(app).commands["run"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("thing", OBJECTS, ids=lambda thing: thing["kind"])
@pytest.mark.parametrize("version", ["1.33", "1.37"])
def test_object_fits_the_schema_of(version: str, thing: dict[str, Any]) -> None:
    kubernetes_validate.validate(thing, version, strict=True)


def test_the_schema_notices_a_slip() -> None:
    wrong = {**BY_KIND["PodDisruptionBudget"], "spec": {"maxUnavailible": 1}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.33", strict=True)


def test_every_selector_finds_the_members() -> None:
    labels = MEMBERS["template"]["metadata"]["labels"]
    (spread,) = POD["topologySpreadConstraints"]
    selectors = [
        MEMBERS["selector"]["matchLabels"],
        BY_KIND["Service"]["spec"]["selector"],
        BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        spread["labelSelector"]["matchLabels"],
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selectors)
    assert MEMBERS["serviceName"] == BY_KIND["Service"]["metadata"]["name"]
    assert BY_KIND["Service"]["spec"]["clusterIP"] == "None"


def test_one_port_everywhere() -> None:
    (port,) = MEMBER["ports"]
    assert port == {"name": "metrics", "containerPort": DEFAULT_PORT}
    assert f"--metrics-port={DEFAULT_PORT}" in MEMBER["args"]
    assert BY_KIND["Service"]["spec"]["ports"] == [{"name": "metrics", "port": DEFAULT_PORT, "targetPort": "metrics"}]
    assert MEMBERS["template"]["metadata"]["annotations"]["prometheus.io/port"] == str(DEFAULT_PORT)
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert MEMBER[probe]["httpGet"]["port"] == "metrics"
    (rule,) = BY_KIND["NetworkPolicy"]["spec"]["ingress"]
    assert rule["ports"] == [{"protocol": "TCP", "port": "metrics"}]
    assert all(peer for peer in rule["from"]), "open to everybody"


def test_health_is_asked_for_life_and_readiness_for_updates() -> None:
    paths = {probe: MEMBER[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")}
    assert paths == {"startupProbe": "/healthz", "livenessProbe": "/healthz", "readinessProbe": "/readyz"}
    assert POD["terminationGracePeriodSeconds"] > COMMIT_SECONDS + LEAVING_SECONDS


def test_every_argument_is_an_option_of_run() -> None:
    verb, *flags = MEMBER["args"]
    assert verb == "run"
    RUN.make_context("run", list(flags)).close()


def test_the_environment_makes_settings_of_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, (mount,) = BY_KIND["ConfigMap"], [m for m in MEMBER["volumeMounts"] if m["name"] == "kafka"]
    assert MEMBER["envFrom"] == [{"configMapRef": {"name": config["metadata"]["name"]}}]
    for name in ("password", "ca.pem"):
        (tmp_path / name).write_text("content")
    found = {key: value.replace(mount["mountPath"], str(tmp_path)) for key, value in config["data"].items()}
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    state_dir = next(flag for flag in flags_of(RunSettings) if flag.option == "state_dir")
    kafka = read(RunSettings, {state_dir: "state"}, None).kafka
    keys = {name.removeprefix("STREAM_MOE_KAFKA_").lower(): value for name, value in found.items()}
    assert {"bootstrap", "topic", "sasl_password_file"} <= keys.keys()
    assert {key: str(getattr(kafka, key)) for key in keys} == keys
    assert kafka.settings().secrets() == ["content"]


def test_no_secret_lies_here_and_each_that_is_named_is_a_file_of_the_mount() -> None:
    assert "Secret" not in BY_KIND
    assert not any("env" in container for container in POD["containers"])
    (secret,) = [volume["secret"] for volume in POD["volumes"] if "secret" in volume]
    assert f"kubectl create secret generic {secret['secretName']} --from-file=password" in "".join(
        path.read_text() for path in FILES
    )


def test_pod_is_hardened_as_in_compose() -> None:
    service = COMPOSE["services"]["stream-moe"]
    pod, container = POD["securityContext"], MEMBER["securityContext"]
    assert (pod["runAsNonRoot"], f"{pod['runAsUser']}:{pod['runAsGroup']}") == (True, service["user"])
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container == {
        "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert POD["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(POD)
    assert MEMBER["image"] == service["image"]
    assert MEMBER["resources"]["limits"] == {"memory": service["mem_limit"].upper() + "i"}


def test_whatever_is_written_to_is_a_volume_and_the_state_is_everybodys() -> None:
    mounts = {mount["mountPath"]: mount["name"] for mount in MEMBER["volumeMounts"]}
    assert set(mounts.values()) == {volume["name"] for volume in POD["volumes"]}
    assert "/tmp" in mounts  # where the image lets numba write
    assert "--state-dir=/state" in MEMBER["args"]
    (claim,) = [v["persistentVolumeClaim"]["claimName"] for v in POD["volumes"] if v["name"] == mounts["/state"]]
    assert claim == BY_KIND["PersistentVolumeClaim"]["metadata"]["name"]
    assert BY_KIND["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteMany"]


def test_the_profile_group_has_three_members_of_one_group_with_one_state() -> None:
    services = COMPOSE["services"]
    group = {name: service for name, service in services.items() if service.get("profiles") == ["group"]}
    assert set(group) == {"group-producer", "group-member"}
    member, topics = group["group-member"], (DOCKER / "kafka" / "create-topics.sh").read_text()
    RUN.make_context("run", list(member["command"][1:])).close()
    flags = dict(flag.removeprefix("--").split("=") for flag in member["command"][1:])
    for topic in ("topic", "predictions", "dead-letters"):
        (partitions,) = re.findall(rf"^create {flags[topic]} .* (\d+)$", topics, re.M)
        assert int(partitions) >= member["deploy"]["replicas"] == MEMBERS["replicas"] == 3
    assert flags["topic"] in group["group-producer"]["command"]
    assert f"--group={flags['group']}" not in services["stream-moe"]["command"]
    assert member["volumes"] == [f"group-state:{flags['state-dir']}"]
    assert "ports" not in member
    (job,) = yaml.safe_load((DOCKER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    assert {"names": ["group-member"], "type": "A", "port": DEFAULT_PORT} in job["dns_sd_configs"]
