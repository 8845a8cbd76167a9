"""The pages are tests: what they show runs, what they name exists, and the public face is what it says it is."""

from __future__ import annotations

import doctest
import re
import socket
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import stream_moe
from tests.console import commands, run_console

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
CONSOLE = re.findall(r"```console\n(.*?)```", README, re.S)
EXAMPLES = [path.read_text() for path in sorted((ROOT / "examples").glob("*.py"))]
EXTENDING = (ROOT / "docs" / "extending.md").read_text()
EXCERPTS = re.findall(r"```python\n(.*?)```", EXTENDING, re.S)
SHELL = [*CONSOLE, *re.findall(r"```console\n(.*?)```", EXTENDING, re.S)]


@pytest.mark.parametrize("snippet", PYTHON)
def test_python_snippets_run(snippet: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("block", [block for block in SHELL if "localhost:9092" not in block])
def test_console_snippets_say_what_the_page_shows(block: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    run_console(block.replace("9108", port), tmp_path)


def test_there_are_snippets() -> None:
    assert len(PYTHON) == 2
    assert [len(commands(block)) for block in CONSOLE] == [2, 3, 3]
    assert len(EXCERPTS) == 4
    assert len(SHELL) == 7


def test_the_check_of_console_snippets_notices(tmp_path: Path) -> None:
    run_console("$ echo 12 events, 94.5% right\n13 events, 94.5% right\n", tmp_path)
    for wrong in ("12 events, 94.6% right", "12 lines, 94.5% right"):
        with pytest.raises(AssertionError):
            run_console(f"$ echo 12 events, 94.5% right\n{wrong}\n", tmp_path)
    with pytest.raises(AssertionError):
        run_console("$ false\n", tmp_path)
    run_console("$ kill -9 $$\nKilled\n", tmp_path)
    with pytest.raises(AssertionError):
        run_console("$ true\nKilled\n", tmp_path)


def test_the_python_page_says_what_python_says() -> None:
    """All its examples, as one session."""
    path = ROOT / "docs" / "python.md"
    blocks = re.findall(r"```python\n(>>>.*?)```", path.read_text(), re.S)
    assert len(blocks) == 16
    session = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, path.name, str(path), 0)
    told: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session, out=told.append)
    assert not told, "".join(told)


@pytest.mark.parametrize("excerpt", EXCERPTS)
def test_what_the_extending_page_shows_is_in_the_examples(excerpt: str) -> None:
    assert any(excerpt in example for example in EXAMPLES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"(?:\]\(|src=\")(?!https?:)([^)#\s\"]+)", page.read_text()):
        assert (page.parent / link).exists(), link


def test_every_page_can_be_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[\w.-]+)\)", README))
    assert {str(page.relative_to(ROOT)) for page in PAGES if page.parent == ROOT / "docs"} <= linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_metrics_that_pages_name_exist(page: Path) -> None:
    from stream_moe.telemetry.table import METRICS

    names = {spec.name for spec in METRICS}
    for name in re.findall(r"(?<![\w/])stream_moe_[a-z_]+[a-z](?![\w./])", page.read_text()):
        base = re.sub(r"_(total|bucket|sum|count)$", "", name)
        assert {name, base} & names, f"{page.name}: {name}"


def test_every_file_that_a_page_names_exists() -> None:
    for page in PAGES:
        for name in re.findall(
            r"`((?:stream_moe|connectors|docker|tests|benchmarks|examples)/[\w./-]*)`", page.read_text()
        ):
            assert (ROOT / name).exists(), f"{page.name}: {name}"


def test_every_function_on_the_way_of_an_event_exists() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    way = page.partition("## The way of one event")[2].partition("## Three laws")[0]
    named = re.findall(r"`([\w.]+)`[^`]*?\(`([\w/]+\.py)`\)", way)
    assert len(named) >= 20
    for name, file in named:
        text = (ROOT / "stream_moe" / file).read_text()
        for part in name.split("."):
            assert re.search(rf"^ *(?:def|class) {part}\b", text, re.M), f"{file}: {part}"


def test_all_names_the_public_face() -> None:
    for name in stream_moe.__all__:
        assert getattr(stream_moe, name) is not None
    assert set(stream_moe.__all__) == {*stream_moe._MODULES, "__version__"}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        stream_moe.nothing  # noqa: B018


def test_the_security_page_has_every_setting_and_option() -> None:
    from stream_moe.cli.settings import Kafka

    page = (ROOT / "docs" / "security.md").read_text()
    secure = [key.name for key in fields(Kafka) if key.name.startswith(("s", "allow"))]
    assert len(secure) == 18
    for name in [
        *secure,
        "--metrics-host",
        "--metrics-name",
        "--metrics-cert",
        "--metrics-key",
        "--metrics-auth-file",
    ]:
        assert f"`{name}`" in page, name


def test_the_streams_page_has_every_name_and_option() -> None:
    from stream_moe.streams import benchmark_names
    from stream_moe.streams.specs import DRIFT_OPTIONS, GENERATORS

    page = (ROOT / "docs" / "streams.md").read_text()
    options = {option for generator in GENERATORS.values() for option in generator}
    for name in [*benchmark_names(), *options]:
        assert f"`{name}`" in page, name
    for name in DRIFT_OPTIONS:
        assert f"`{name}=" in page, name
