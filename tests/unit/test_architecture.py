"""The table of docs/architecture.md is how the modules really depend on each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROWS = re.findall(r"^\| (programs|views|drivers|scores|learners|parts|streams|ground) \| (.*?) \|", PAGE, re.M)
RANK = {module: -rank for rank, (_, modules) in enumerate(ROWS) for module in re.findall(r"`(\w+)`", modules)}
GROUND = {module for module, rank in RANK.items() if rank == min(RANK.values())}


def modules_of(package: str) -> Iterator[tuple[str, ast.Module]]:
    """Each file of a package: the module or package at its top that it belongs to, and what it says."""
    for path in sorted((ROOT / package).rglob("*.py")):
        top = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if top not in {"__init__", "__main__"}:
            yield top, ast.parse(path.read_text())


def imported(tree: ast.Module) -> Iterator[str]:
    """Dotted names of what a module imports, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def upward(top: str, tree: ast.Module) -> list[str]:
    """Imports of a module of `stream_moe` that the page does not allow."""
    found = []
    for name in imported(tree):
        package, _, rest = name.partition(".")
        if package == "connectors" and top != "cli":
            found.append(name)
        if package == "stream_moe" and rest != "__version__" and RANK[rest.split(".")[0]] > RANK[top]:
            found.append(name)
    return found


def test_the_page_names_every_module() -> None:
    there = {top for top, _ in modules_of("stream_moe")}
    assert there - RANK.keys() == set(), "name it in the table of docs/architecture.md"
    assert RANK.keys() - there == set(), "the table names what is not there"
    assert len(ROWS) == 8


def test_no_module_imports_upwards() -> None:
    assert {top: bad for top, tree in modules_of("stream_moe") if (bad := upward(top, tree))} == {}


def test_there_is_no_circle() -> None:
    known: dict[str, set[str]] = {}
    for top, tree in modules_of("stream_moe"):
        ours = (name.split(".")[1] for name in imported(tree) if name.startswith("stream_moe."))
        known.setdefault(top, set()).update({other for other in ours if other in RANK} - {top})
    while leaves := [top for top, others in known.items() if not others & known.keys()]:
        for top in leaves:
            del known[top]
    assert known == {}, "these import each other"


@pytest.mark.parametrize(
    ("top", "code"),
    [
        ("engine", "import connectors.kafka"),
        ("experts", "def f():\n    from stream_moe.engine.loop import Engine"),
        ("ports", "from stream_moe import streams"),
    ],
)
def test_the_rule_notices(top: str, code: str) -> None:
    assert upward(top, ast.parse(code))


def test_connectors_know_only_the_ground() -> None:
    for top, tree in modules_of("connectors"):
        ours = [name.split(".")[1] for name in imported(tree) if name.startswith("stream_moe.")]
        assert set(ours) <= GROUND, top
