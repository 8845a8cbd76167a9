"""What an extra brings, where it is missing or damaged: one line that says what to install, and the rest runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from stream_moe import build_model, open_stream, replay
from stream_moe.cli import settings
from stream_moe.errors import ConfigError
from stream_moe.runtime.extras import need

RESULT = {"model": "m", "stream": "s", "seed": 1, "events": 2, "accuracy": 0.5, "kappa": 0.0}
REFUSAL = """
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {names}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Missing)
"""
DAMAGED = 'raise OSError("libtorch_cpu.so: cannot open shared object file\\nNo such file")'


class Place:
    """Where the command line runs as if packages were not installed, or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.site = folder, folder / "site"
        self.site.mkdir()

    def without(self, *names: str) -> Place:
        (self.site / "sitecustomize.py").write_text(REFUSAL.format(names=set(names)))
        return self

    def with_damaged_torch(self) -> Place:
        (self.site / "torch.py").write_text(DAMAGED)
        return self

    def python(self, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        paths = os.pathsep.join([str(self.site), os.getcwd(), os.environ.get("PYTHONPATH", "")])
        return subprocess.run(
            [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, check=False,
            env=dict(os.environ) | {"PYTHONPATH": paths} | environment,
        )  # fmt: skip

    def refuses(self, *arguments: object) -> str:
        """Run the command line, which must fail with one line; return it."""
        done = self.python("-m", "stream_moe", *arguments)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("stream-moe: ")
        return line

    def replays(self, *arguments: object) -> dict[str, object]:
        result = self.folder / "replayed.json"
        done = self.python("-m", "stream_moe", "replay", *arguments, "--quiet", "--json", result)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        found: dict[str, object] = json.loads(result.read_text())
        return found


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("name", ["driftmoe", "driftmoe-data", "driftmoe-task"])
def test_a_replay_needs_none_of_them_for_its_bits(place: Place, name: str) -> None:
    found = place.without("torch", "plotly", "scipy").replays("sea_a", "--events", 1500, "--model", name)
    here = replay(open_stream("sea_a", seed=1), lambda schema: build_model(name, schema, seed=1), events=1500)
    assert found["state_digest"] == here.state_digest


def test_the_published_mixture_in_two_stages_needs_no_torch(place: Place) -> None:
    options = ["--model", "driftmoe-two-stage", "--set", "burn_in=500", "--set", "first_half=700"]
    assert place.without("torch", "plotly").replays("sea_a", "--events", 1500, *options)["events"] == 1500


def test_folds_need_none_of_them(place: Place) -> None:
    found = place.without("torch", "plotly").replays("sea_a", "--events", 400, "--model", "knn", "--folds", 2)
    assert found["folds"] == 2


def test_plots_without_plotly_are_refused_before_the_work(place: Place) -> None:
    result, page = place.folder / "r.json", place.folder / "page.html"
    result.write_text(json.dumps(RESULT))
    place.without("plotly")
    wanted = "stream-moe: plots: needs plotly, not installed; pip install 'stream-moe[plots]'"
    assert place.refuses("replay", "sea_a", "--events", 100, "--quiet", "--report", page) == wanted
    assert place.refuses("report", result, "--out", page) == wanted
    assert place.refuses("report", result, "--pictures", place.folder) == wanted
    assert not page.exists()


def test_a_device_without_torch_is_refused(place: Place) -> None:
    wanted = "--device cuda: needs torch, not installed; pip install 'stream-moe[torch]'"
    command = ["replay", "sea_a", "--events", 100, "--model", "driftmoe-data", "--device", "cuda"]
    assert place.without("torch").refuses(*command).endswith(wanted)
    code = (
        "from stream_moe import DriftMoEData, open_stream; DriftMoEData(open_stream('sea_a').schema, device='cuda')"
    )
    said = place.python("-c", code).stderr.splitlines()[-1]
    assert said.endswith("device: 'cuda': needs torch, not installed; pip install 'stream-moe[torch]'")


def test_a_torch_that_does_not_import_is_one_line(place: Place) -> None:
    command = ["replay", "sea_a", "--events", 100, "--model", "driftmoe-data"]
    place.with_damaged_torch()
    line = place.refuses(*command, "--device", "cuda")
    why = "OSError: libtorch_cpu.so: cannot open shared object file No such file"
    assert f"--device cuda: torch is installed but does not import ({why}); install it anew: pip" in line
    assert place.replays(*command[1:], "--device", "cpu")["events"] == 100


def test_logs_for_tensorboard_without_torch_are_refused(place: Place) -> None:
    pytest.importorskip("tensorboard", reason="else it is what is missing first")
    plan = place.folder / "e.toml"
    plan.write_text('streams = ["sea_a"]\nmodels = ["knn"]\nevents = 50\n')
    line = place.without("torch").refuses("experiment", plan, "--tensorboard", "--out", place.folder / "out")
    assert line.endswith("TensorBoard logs: needs torch, not installed; pip install 'stream-moe[tensorboard]'")


def test_a_driver_without_a_torch_is_told_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(*_: str) -> None:
        raise ConfigError("--device auto: needs torch, not installed; pip install 'stream-moe[torch]'")

    monkeypatch.setattr(settings, "_has_driver", lambda: True)
    monkeypatch.setattr(settings, "need", missing)
    settings._finds_cuda.cache_clear()
    try:
        assert [settings.Model(name="driftmoe-data").find_device() for _ in range(3)] == ["cpu"] * 3
        assert settings.Model(name="driftmoe").find_device() == "cpu"
    finally:
        settings._finds_cuda.cache_clear()
    said = "stream-moe: --device auto: needs torch, not installed; pip install 'stream-moe[torch]'; the router stays"
    assert capsys.readouterr().err == f"{said} on the CPU\n"


def test_no_driver_no_torch_is_loaded(place: Place) -> None:
    if settings._has_driver():
        pytest.skip("a GPU's driver is here, so torch is asked")
    code = (
        "import sys; from stream_moe.cli.settings import Model; print(Model(name='driftmoe-data').find_device()); "
        "sys.exit('torch' in sys.modules)"
    )
    done = place.python("-c", code)
    assert (done.returncode, done.stdout) == (0, "cpu\n")


def test_a_package_that_its_extra_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "half_a_package.py").write_text("import no_such_dependency")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=r"half_a_package is installed but .*No module named 'no_such_dependency'"):
        need("half_a_package", "plots", "plots")


@pytest.mark.parametrize("home", ["/proc/none", None])
def test_a_home_where_nothing_can_be_kept_is_told_once(place: Place, home: str | None) -> None:
    """No directory for compiled code: it is compiled anew, and no C compiler is needed for that."""
    if home is None:  # as a user without a home, who may be no other in this test
        (place.site / "sitecustomize.py").write_text(
            "from pathlib import Path\ndef none(self): raise RuntimeError('no home')\nPath.expanduser = none"
        )
    code = (
        "from stream_moe.runtime.compiled import compiled, is_cold\n"
        "@compiled\ndef twice(x): return 2 * x\n"
        "@compiled\ndef thrice(x): return 3 * x\n"
        "print(twice(4), thrice(4), is_cold())"
    )
    empty = dict.fromkeys(("NUMBA_CACHE_DIR", "XDG_CACHE_HOME"), "")
    done = place.python("-c", code, PATH="/nowhere", HOME=home or os.environ.get("HOME", ""), **empty)
    assert (done.returncode, done.stdout) == (0, "8 12 False\n")
    (line,) = done.stderr.splitlines()
    assert "compiled code cannot be kept, so each start compiles anew" in line
    assert "NUMBA_CACHE_DIR" in line
