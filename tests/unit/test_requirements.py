"""What the container and CI install: each file by its hash, of the versions that are tested, and all of it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def entries(name: str) -> dict[str, tuple[str, list[str]]]:
    """Version and hashes of each package of a file."""
    text = re.sub(r"\\\n\s*", " ", (ROOT / "requirements" / name).read_text())
    found = {}
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            package, version = re.match(r"([a-z0-9.-]+)==([\w.]+)", line).groups()  # type: ignore[union-attr]
            found[package] = (version, re.findall(r"--hash=sha256:([0-9a-f]{64})\b", line))
    return found


@pytest.mark.parametrize("name", ["base.txt", "build.txt"])
def test_each_package_has_its_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / name).read_text()
    assert not re.search(r"https?:|--(extra-)?index-url|--find-links|--trusted-host", text)
    assert len(entries(name)) >= 5
    for package, (_, hashes) in entries(name).items():
        assert hashes, package


def test_they_are_the_versions_that_are_tested() -> None:
    known = {name.lower().replace("_", "-"): version for name, version in PINS.items()}
    for package, (version, _) in (entries("base.txt") | entries("build.txt")).items():
        assert known.get(package, version) == version, package


def test_all_that_the_base_needs_is_there() -> None:
    names = {re.match(r"[\w-]+", each)[0].lower() for each in PROJECT["project"]["dependencies"]}  # type: ignore[index]
    assert names <= entries("base.txt").keys()
    (backend,) = PROJECT["build-system"]["requires"]
    assert backend.startswith("hatchling>=")
    assert ",<" in backend
    assert "hatchling" in entries("build.txt")


def test_the_container_and_ci_install_from_them() -> None:
    for path in ("docker/Dockerfile", ".ci/base"):
        text = (ROOT / path).read_text()
        assert "--require-hashes -r requirements/base.txt" in text, path
        assert "index-url" not in text
    assert "--require-hashes -r requirements/build.txt" in (ROOT / "docker/Dockerfile").read_text()


def test_the_notice_names_what_has_other_terms() -> None:
    notice = (ROOT / "NOTICE").read_text()
    for name in ("crc32c", "Lesser General Public License", "electricity", "MOA", "CapyMOA"):
        assert name in notice
    assert PROJECT["project"]["license-files"] == ["LICENSE", "NOTICE"]
