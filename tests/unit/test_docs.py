"""The README is a test, and the public face is what it says it is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import stream_moe

README = (Path(__file__).parents[2] / "README.md").read_text()
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
CONSOLE = re.findall(r"^\$ stream-moe (.*)$", README, re.M)


@pytest.mark.parametrize("snippet", PYTHON)
def test_python_snippets_run(snippet: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", CONSOLE)
def test_console_snippets_run(command: str, tmp_path: Path) -> None:
    run = [sys.executable, "-c", "from stream_moe.cli import main; main()", *shlex.split(command)]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_there_are_snippets() -> None:
    assert len(PYTHON) == 2
    assert len(CONSOLE) == 2


def test_every_file_the_readme_names_exists() -> None:
    root = Path(__file__).parents[2]
    for name in re.findall(r"`((?:stream_moe|connectors|docker|tests)(?:/[\w./]*)?)`", README):
        assert (root / name).exists(), name


def test_all_names_the_public_face() -> None:
    for name in stream_moe.__all__:
        assert getattr(stream_moe, name) is not None
    assert set(stream_moe.__all__) == {*stream_moe._HOME, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        stream_moe.nothing  # noqa: B018


def test_the_security_page_has_every_setting_and_option() -> None:
    from stream_moe.config import KAFKA_KEYS

    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    secure = [key for key in KAFKA_KEYS if key.startswith(("s", "allow"))]
    assert len(secure) == 9
    for name in [*secure, "--metrics-host", "--metrics-cert", "--metrics-key", "--metrics-auth-file"]:
        assert f"`{name}`" in page, name


def test_the_streams_page_has_every_name_and_option() -> None:
    from stream_moe.streams import benchmark_names
    from stream_moe.streams.specs import DRIFT_OPTIONS, GENERATORS

    page = (Path(__file__).parents[2] / "docs" / "streams.md").read_text()
    options = {option for generator in GENERATORS.values() for option in generator}
    for name in [*benchmark_names(), *options]:
        assert f"`{name}`" in page, name
    for name in DRIFT_OPTIONS:
        assert f"`{name}=" in page, name
