"""The files under docker/: hardened as promised, at one with each other, and with the metric table."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_moe.telemetry import DEFAULT_PORT
from stream_moe.telemetry.table import METRICS

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
PROMETHEUS = DOCKER / "prometheus"
DASHBOARDS = sorted((DOCKER / "grafana" / "dashboards").glob("*.json"))

COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
# Where one lies, or that there is none.
NO_SECRETS = "secrets in|secret: {|secretName: |AccountToken: false|PASSWORD_FILE: /"
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
SCRAPED = {spec.name for spec in METRICS if spec.kind != "histogram"} | {
    spec.name + suffix for spec in METRICS if spec.kind == "histogram" for suffix in ("_bucket", "_sum", "_count")
}


def dashboard_queries(path: Path) -> list[str]:
    """All PromQL of a dashboard: panels, annotations and variables."""
    dashboard = json.loads(path.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [mark["expr"] for mark in dashboard["annotations"]["list"]]
    return queries + [variable["query"] for variable in dashboard["templating"]["list"]]


services = pytest.mark.parametrize("name", SERVICES)


@services
def test_service_has_a_pinned_image(name: str) -> None:
    image = SERVICES[name]["image"]
    assert re.fullmatch(r"[a-z/-]+:(v?\d+\.\d+\.\d+|local)", image)
    if image.endswith(":local"):
        build = SERVICES[name]["build"]
        assert (DOCKER / build["context"] / build["dockerfile"]).is_file()


@services
def test_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[1-9]\d*:\d+", service["user"]), "runs as root"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "pids_limit"} <= set(service)
    assert not {"privileged", "cap_add", "network_mode", "pid", "devices"} & set(service)


@services
def test_service_publishes_on_loopback_only(name: str) -> None:
    for port in SERVICES[name].get("ports", []):
        assert re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)


@services
def test_service_mounts_what_exists_and_writes_to_volumes_only(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        source, _, *mode = mount.split(":")
        if source.startswith("."):
            assert (DOCKER / source).exists()
            assert mode == ["ro"]
        else:
            assert source in COMPOSE["volumes"]


@services
def test_service_depends_on_services_that_can_tell(name: str) -> None:
    depends = SERVICES[name].get("depends_on", {})
    for other in depends:
        assert other in SERVICES
        condition = depends[other]["condition"] if isinstance(depends, dict) else "service_started"
        if condition == "service_healthy":
            assert "healthcheck" in SERVICES[other]
        if condition == "service_completed_successfully":
            assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("path", sorted(p for p in DOCKER.rglob("*") if p.is_file()), ids=lambda p: p.name)
def test_no_secret_and_no_address_outside(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"(?i)(password|secret|token)\w*\s*[:=]\s*[\"']?\w", re.sub(NO_SECRETS, "", text))
    outside = r"https?://(?!(127\.0\.0\.1|localhost|prometheus|stream-moe|kafka)[:/])"
    assert not re.search(outside, text)


def test_one_port_everywhere() -> None:
    daemon = SERVICES["stream-moe"]
    dockerfile = (DOCKER / "Dockerfile").read_text()
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    assert f"--metrics-port={DEFAULT_PORT}" in daemon["command"]
    assert daemon["ports"] == [f"127.0.0.1:{DEFAULT_PORT}:{DEFAULT_PORT}"]
    assert config["scrape_configs"][0]["static_configs"][0]["targets"] == [f"stream-moe:{DEFAULT_PORT}"]
    assert f"EXPOSE {DEFAULT_PORT}\n" in dockerfile
    assert f"http://127.0.0.1:{DEFAULT_PORT}/healthz" in dockerfile


def test_dockerfile() -> None:
    text = (DOCKER / "Dockerfile").read_text()
    final = text[text.rindex("\nFROM ") :]
    assert re.findall(r"^USER (.+)$", final, re.M) == [SERVICES["stream-moe"]["user"]]
    assert "\nHEALTHCHECK " in final
    assert "\nVOLUME /state\n" in final
    assert re.findall(r"^WORKDIR (.+)$", final, re.M) == ["/"]  # no code is taken from where the state lies
    assert "PYTHONSAFEPATH=1" in final
    assert '["python", "-I", ' in final
    assert "state:/state" in SERVICES["stream-moe"]["volumes"]
    assert "ADD " not in text
    assert all(re.search(r":\d+\.\d+", image) for image in re.findall(r"^FROM (\S+)", text, re.M))


def test_the_build_context_holds_what_the_dockerfile_copies() -> None:
    allowed = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.M)
    for name in " ".join(copies).split():
        assert (ROOT / name).exists(), name
        assert f"!{name}" in allowed


dashboards = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


@pytest.mark.parametrize("query", [rule["expr"] for rule in RULES])
def test_every_metric_of_a_rule_exists(query: str) -> None:
    names = set(re.findall(r"\bstream_moe[_:][a-z0-9_:]+", query))
    assert names <= SCRAPED | RECORDED
    assert names or "up{" in query


def test_the_dashboards_are_what_their_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DOCKER / "grafana" / "dashboards.py", tmp_path], check=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written == {path.name: path.read_text() for path in DASHBOARDS}


def test_the_rules_are_what_their_script_writes(tmp_path: Path) -> None:
    subprocess.run([sys.executable, PROMETHEUS / "rules.py", tmp_path / "rules.yml"], check=True)
    assert (tmp_path / "rules.yml").read_text() == (PROMETHEUS / "rules.yml").read_text()


def test_a_metric_that_no_dashboard_shows_gets_a_panel() -> None:
    code = "import dashboards, json; print(json.dumps(dashboards.others('')))"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=DOCKER / "grafana", capture_output=True, text=True, check=True)
    panels = json.loads(done.stdout)
    queries = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    usual = [spec for spec in METRICS if not re.match("stream_moe_key(s|_)", spec.name)]
    assert len(panels) == len(usual)
    for spec in usual:
        assert re.search(rf"\b{spec.name}(_bucket)?{{", queries), spec.name


def test_the_dashboards_show_every_metric() -> None:
    queries = " ".join(query for path in DASHBOARDS for query in dashboard_queries(path))
    queries += " ".join(rule["expr"] for rule in RULES if rule.get("record", "alert") in queries)
    shown = set(re.findall(r"\bstream_moe_[a-z0-9_]+", queries))
    usual = [spec for spec in METRICS if not re.match("stream_moe_key(s|_)", spec.name)]  # of keyed runs
    forms = {spec.name: {spec.name, f"{spec.name}_bucket", f"{spec.name}_sum"} for spec in usual}
    assert [name for name, scraped in forms.items() if not scraped & shown] == []


@dashboards
def test_dashboard_fits_its_provisioning(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    datasources = yaml.safe_load((DOCKER / "grafana/provisioning/datasources/prometheus.yaml").read_text())
    used = set(re.findall(r'"datasource": (\{[^}]*\})', json.dumps(dashboard)))
    assert used <= {json.dumps({"type": one["type"], "uid": one["uid"]}) for one in datasources["datasources"]}
    provider = yaml.safe_load((DOCKER / "grafana/provisioning/dashboards/stream-moe.yaml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{folder}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home in {f"{folder}/{other.name}" for other in DASHBOARDS}
    assert dashboard["uid"] == f"stream-moe-{path.stem}"


@dashboards
def test_panels_are_placed_numbered_and_described(path: Path) -> None:
    panels = json.loads(path.read_text())["panels"]
    ids = [panel["id"] for panel in panels]
    assert len(set(ids)) == len(ids)
    taken = [
        (panel["gridPos"]["x"] + dx, panel["gridPos"]["y"] + dy)
        for panel in panels
        for dx in range(panel["gridPos"]["w"])
        for dy in range(panel["gridPos"]["h"])
    ]
    assert len(set(taken)) == len(taken), "panels overlap"
    assert max(x for x, _ in taken) < 24
    for panel in panels:
        if panel["type"] != "row":
            assert re.fullmatch(r"[^.].*\.", panel["description"]), panel["title"]
        for target in panel.get("targets", []):
            assert target["expr"], panel["title"]
        if "targets" in panel:
            refs = [target["refId"] for target in panel["targets"]]
            assert len(set(refs)) == len(refs)
            values = [step["value"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]]
            assert values[0] is None
            assert values[1:] == sorted(values[1:])


@dashboards
def test_every_variable_is_used_and_defined(path: Path) -> None:
    dashboard = json.loads(path.read_text())
    used = set(re.findall(r"\$(\w+)", " ".join(dashboard_queries(path))))
    defined = {variable["name"] for variable in dashboard["templating"]["list"]}
    assert used - {"__rate_interval", "__range"} == defined
    # Whoever chose one process sees no other: a metric without a matcher would.
    for query in dashboard_queries(path):
        for name, matchers in re.findall(r"\b(stream_moe[_:][a-z0-9_:]+)(\{[^}]*\})?", query):
            assert "$job" in matchers or "build_info, job" in query, f"{name} in {query}"


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_alert_explains_itself_and_is_tested(alert: dict[str, Any]) -> None:
    name, annotations = alert["alert"], alert["annotations"]
    assert alert["labels"]["severity"] in ("info", "warning", "critical")
    assert set(annotations) == {"summary", "runbook", "runbook_url"}
    page, anchor = annotations["runbook_url"].split("#")
    assert anchor == name.lower()
    assert f"\n## {name}\n" in (ROOT / page).read_text()
    cases = yaml.safe_load((PROMETHEUS / "tests.yml").read_text())["tests"]
    fires = [case for case in cases if name in json.dumps(case["promql_expr_test"])]
    assert any(name == check["alertname"] for case in fires for check in case.get("alert_rule_test", []))
    for case in fires:
        assert any(check["exp_samples"] == [] for check in case["promql_expr_test"])
    # Silent where it must be, in at least two ways: other instances than the one that has the fault.
    series = " ".join(entry["series"] for case in fires for entry in case["input_series"])
    assert len(set(re.findall(r'instance="(\w+)"', series)) - {"any", "bad", "doubt"}) >= 2


def test_runbooks_name_what_there_is() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    assert set(re.findall(r"^## (\w+)", text, re.M)) == {alert["alert"] for alert in ALERTS}
    assert set(re.findall(r"\bstream_moe_[a-z_]+[a-z]", text)) <= SCRAPED
