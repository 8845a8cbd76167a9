"""The table of docs/architecture.md is how the modules really depend on each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median

import pytest

from tools.layers import PICTURE, draw, layers

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
ROWS = re.findall(r"^\| (programs|views|drivers|scores|learners|parts|streams|ground) \| (.*?) \|", PAGE, re.M)
RANK = {module: -rank for rank, (_, modules) in enumerate(ROWS) for module in re.findall(r"`(\w+)`", modules)}
GROUND = {module for module, rank in RANK.items() if rank == min(RANK.values())}

MOST_LINES, FUNCTION_LINES, PARAMETERS = 450, 60, 12


# To be emptied: no new name comes in.
def modules_of(package: str) -> Iterator[tuple[str, ast.Module]]:
    """Each file of a package: the module or package at its top that it belongs to, and what it says."""
    for path in sorted((ROOT / package).rglob("*.py")):
        top = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        if top not in {"__init__", "__main__"}:
            yield top, ast.parse(path.read_text())


def imported(tree: ast.Module, *, for_types: bool = True) -> Iterator[str]:
    """Dotted names of what a module imports, inside functions too; those below `if TYPE_CHECKING` if wanted."""
    for node in ast.walk(tree) if for_types else running(tree):
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


# Inside packages, and the size of what is in them.


def insides() -> dict[str, list[list[set[str]]]]:
    """Of each package of the second table: its levels from the top, each of groups that do not know each other."""
    rows = re.findall(r"^\| `(\w+)` \| (.*→.*) \|$", PAGE, re.M)
    return {
        package: [[set(re.findall(r"`(\w+)`", group)) for group in level.split(",")] for level in order.split("→")]
        for package, order in rows
    }


def inner(package: str, levels: list[list[set[str]]], part: str, tree: ast.Module) -> list[str]:
    """Imports of a part of a package that its row does not allow."""
    place = {
        name: (n, group) for n, level in enumerate(levels) for group, names in enumerate(level) for name in names
    }
    found = []
    for name in imported(tree):
        names = name.split(".")
        other = names[2] if names[:2] == ["stream_moe", package] and len(names) > 2 else part
        if place.get(other, place[part]) == place[part]:
            continue
        if place[other][0] <= place[part][0]:
            found.append(name)
    return found


def test_no_part_of_a_package_imports_upwards_or_aside() -> None:
    assert set(insides()) == {"models", "experts"}
    for package, levels in insides().items():
        parts = set().union(*(group for level in levels for group in level))
        for path in sorted((ROOT / "stream_moe" / package).rglob("*.py")):
            part = path.relative_to(ROOT / "stream_moe" / package).parts[0].removesuffix(".py")
            if part in parts:
                assert inner(package, levels, part, ast.parse(path.read_text())) == [], path


def test_the_rule_inside_packages_notices() -> None:
    levels = insides()["models"]
    for code in ("from stream_moe.models.catalogue import build_model", "import stream_moe.models.published.data"):
        assert inner("models", levels, "driftmoe", ast.parse(code))
    assert not inner(
        "models", levels, "driftmoe", ast.parse("from stream_moe.models.contract import BlockClassifier")
    )


def files_of(*packages: str) -> dict[str, Path]:
    """Each module by its dotted name."""
    found = {}
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            names = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(names[:-1] if names[-1] == "__init__" else names)] = path
    return found


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node but those below `if TYPE_CHECKING`: what is imported there is never run."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")):
            yield node
            yield from running(node)


def known_to(tree: ast.Module, modules: dict[str, Path]) -> set[str]:
    """Modules that a module imports; a package that it only passes through does not count."""
    names = set(imported(tree, for_types=False))
    return {name if name in modules else name.rpartition(".")[0] for name in names} & modules.keys()


def circle(known: dict[str, set[str]]) -> list[str]:
    """Modules that import each other, one circle of them; empty if there is none."""
    try:
        TopologicalSorter(known).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = files_of("stream_moe", "connectors")
    known = {name: known_to(ast.parse(path.read_text()), modules) - {name} for name, path in modules.items()}
    assert circle(known) == []


def test_the_search_for_circles_notices() -> None:
    modules = {name: Path() for name in ("stream_moe.a", "stream_moe.b")}
    late = known_to(ast.parse("def f():\n    from stream_moe.b import x"), modules)
    assert circle({"stream_moe.a": late, "stream_moe.b": {"stream_moe.a"}})
    never = known_to(ast.parse("if TYPE_CHECKING:\n    from stream_moe import b"), modules)
    assert not circle({"stream_moe.a": never, "stream_moe.b": {"stream_moe.a"}})


def test_modules_have_their_size() -> None:
    sizes = {name: len(path.read_text().splitlines()) for name, path in files_of("stream_moe", "connectors").items()}
    assert {name for name, size in sizes.items() if size > MOST_LINES} == set()
    assert 80 <= median(sizes.values()) <= 250


def too_large(tree: ast.Module) -> Iterator[str]:
    """Functions that have too many lines beside their docstring, or too many parameters; compiled ones may."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef) or any("compiled" in ast.unparse(d) for d in node.decorator_list):
            continue
        given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        parameters = len([each for each in given if each.arg not in {"self", "cls"}])
        lines = (
            (node.end_lineno or 0) - node.lineno + 1 - len((ast.get_docstring(node, clean=False) or "").splitlines())
        )
        if lines > FUNCTION_LINES or (parameters > PARAMETERS and node.name != "__init__"):  # a learner's settings
            yield node.name


def test_functions_have_their_size() -> None:
    found = {
        f"{module}.{name}"
        for module, path in files_of("stream_moe", "connectors").items()
        for name in too_large(ast.parse(path.read_text()))
    }
    assert found == set()


def test_the_rule_of_sizes_notices() -> None:
    body = "\n".join(["    pass"] * 61)
    assert list(too_large(ast.parse(f"def f():\n{body}"))) == ["f"]
    assert list(too_large(ast.parse(f"@compiled(_nrt=False)\ndef f():\n{body}"))) == []
    assert list(too_large(ast.parse(f"def f({', '.join(f'a{i}' for i in range(13))}): ..."))) == ["f"]


def test_the_drawing_of_the_layers_is_that_of_the_table() -> None:
    assert PICTURE.read_text() == draw(PAGE), "python -m tools.layers draws it anew"
    assert layers(PAGE) == [(name, re.findall(r"`(\w+)`", modules)) for name, modules in ROWS]
