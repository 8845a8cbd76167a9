"""Classes of a user's own: as the daemon's model, beside its experts; what breaks a law is refused in one line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from stream_moe.cli import sources
from stream_moe.cli.flags import flags_of
from stream_moe.cli.run import RunSettings
from stream_moe.engine.codec import JsonCodec
from stream_moe.errors import ConfigError
from stream_moe.models.catalogue import build_model
from stream_moe.streams import open_stream
from stream_moe.types import Feature, Schema

ROOT = Path(__file__).parents[2]
SCHEMA = Schema((Feature("a"), Feature("b", ("x", "y"))), ("no", "yes"))
OWN = "examples.fading_means:FadingMeans"

# Counts classes; each broken one lacks one thing.
COUNTING = """
import numpy as np
from stream_moe.experts.base import Expert

class Counting(Expert):
    kind = "counting"
    def __init__(self, schema, *, start: float = 1.0, seed: int = 1):
        self.n_classes, self.count, self.seen = schema.n_classes, np.full(schema.n_classes, start), 0
    def step(self, x, y, weight, proba):
        for t in range(len(y)):
            proba[t] = self.count / self.count.sum()
            if y[t] >= 0:
                self.count[y[t]] += weight[t]
    def grow(self, schema):
        pass
    def snapshot(self):
        return {"count": self.count.copy()}, {}
    def restore(self, snapshot):
        self.count[:] = snapshot[0]["count"]

class Forgetful(Counting):
    def snapshot(self):
        return {"count": np.ones(self.n_classes)}, {}

class Blockwise(Counting):
    def step(self, x, y, weight, proba):
        super().step(x, y, weight, proba)
        self.count += 1

class Silent(Counting):
    def step(self, x, y, weight, proba):
        proba[:] = 0.1

class Failing(Counting):
    def __init__(self, schema):
        raise RuntimeError("no luck")

class Lost(Counting):
    def restore(self, snapshot):
        self.count[:] = snapshot[0]["nothing"]

class NoModel:
    pass
"""


@pytest.fixture(autouse=True)
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_shop.py").write_text(COUNTING)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_shop", raising=False)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Forgetful", "snapshot() lacks some state"),
        ("Blockwise", "depends on how events are cut into blocks"),
        ("Silent", "step gave no probabilities"),
        ("Failing", "RuntimeError: no luck (own_shop.py, line"),
        ("Lost", "KeyError: 'nothing' (own_shop.py, line"),
        ("NoModel", "neither a BlockClassifier nor an Expert"),
        ("Nothing", "own_shop has no class 'Nothing'; it has Expert, Counting"),
    ],
)
def test_what_breaks_the_contract_is_refused(name: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_model(f"own_shop:{name}", SCHEMA)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="no module 'not_there'; it must be installed here or be on PYTHONPATH"):
        build_model("not_there.models:Mine", SCHEMA)


def test_settings_reach_it_and_are_part_of_whose_state_it_is() -> None:
    model = build_model("own_shop:Counting", SCHEMA, seed=7, options={"start": "3"})
    assert model.learning_parameters()["parameters"] == {"start": 3.0, "seed": 7}
    with pytest.raises(ConfigError, match="no setting 'stop'; its settings are start"):
        build_model("own_shop:Counting", SCHEMA, options={"stop": "3"})


def test_experts_stand_beside_those_of_the_default_mixture() -> None:
    plain = build_model("driftmoe", SCHEMA)
    model = build_model("driftmoe", SCHEMA, experts=["own_shop:Counting", OWN])
    kinds = [expert.kind for expert in model.report().experts]
    assert kinds == [*(expert.kind for expert in plain.report().experts), "counting", "fading-means"]
    assert model.learning_parameters() == plain.learning_parameters() | {"experts": ["own_shop:Counting", OWN]}
    with pytest.raises(ConfigError, match="cannot be made again from a file"):
        model.save("/nowhere")
    for name, experts in (("knn", [OWN]), ("driftmoe", ["own_shop:NoModel"])):
        with pytest.raises(ConfigError, match="--expert"):
            build_model(name, SCHEMA, experts=experts)


@pytest.mark.parametrize("key", ["NAME", "EXPERTS"])
def test_code_is_named_on_the_command_line_alone(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"STREAM_MOE_MODEL_{key}", OWN)
    state = {flag: "s" for flag in flags_of(RunSettings) if flag.field == "state_dir"}
    with pytest.raises(ConfigError, match="name it on the command line alone"):
        sources.read(RunSettings, state, None)
    given: dict[Any, Any] = {
        flag: OWN if flag.field == "name" else [OWN]
        for flag in flags_of(RunSettings)
        if flag.group == "model" and flag.field in ("name", "experts")
    }
    assert sources.read(RunSettings, state | given, None).model.name == OWN


def test_the_daemon_learns_with_it_over_a_kill(tmp_path: Path) -> None:
    source = open_stream("sea_a", seed=1)
    lines = JsonCodec(source.schema).encode_events(next(iter(source.blocks(2000))))
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.jsonl").write_bytes(b"\n".join(lines))
    digests = []
    for state, places in (("one", [""]), ("two", ["stepped:12", ""])):
        for place in places:
            command = [sys.executable, "-m", "stream_moe", "run", "--source", str(tmp_path / "in"), "--state-dir",
                       str(tmp_path / state), "--json", str(tmp_path / f"{state}.json"), "--schema", "sea_a",
                       "--model", OWN, "--set", "fade=0.98", "--metrics-port", "0", "--block-rows", "100",
                       "--checkpoint-events", "300", "--quiet", "--until-caught-up"]  # fmt: skip
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "STREAM_MOE_FAIL_AT": place or "none"}
            done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100, check=False)
            assert done.returncode == (-9 if place else 0), done.stderr
        found = json.loads((tmp_path / f"{state}.json").read_text())
        digests.append(found["state_digest"])
        assert found["model"] == OWN
    assert digests[0] == digests[1]
