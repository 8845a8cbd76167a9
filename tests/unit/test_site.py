"""The API reference shows what is documented, and the check that the site is built by notices what is not."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

import pytest

from tools.public_names import documented_modules, public_face, undocumented
from tools.site import FETCHED, ROOT, linked, place_of, reference_pages


class Described:
    """Something.

    Parameters
    ----------
    size
        How much.

    Examples
    --------
    >>> Described(1).size
    1
    """

    def __init__(self, size: int, shape: int = 1) -> None:
        self.size = size

    def grow(self) -> None: ...


@dataclass
class Bare:
    size: int


def bare() -> None: ...


def test_every_public_name_is_documented() -> None:
    assert undocumented(public_face(), documented_modules()) == []


def test_the_check_notices_a_missing_docstring() -> None:
    module = ModuleType(__name__)
    module.__dict__.update(Bare=Bare, bare=bare)
    assert undocumented({"Described": Described}, [module]) == [
        "Described.grow: no docstring",
        "Described: parameter shape is not described",
        f"{__name__}.Bare: no docstring",
        f"{__name__}.bare: no docstring",
        f"{__name__}: no docstring",
    ]


def test_the_reference_has_every_public_name() -> None:
    text = "".join(reference_pages().values())
    for name, value in public_face().items():
        assert text.count(f"::: {value.__module__}.{name}\n") == 1


def test_every_linked_file_of_the_repository_has_a_place_in_the_site() -> None:
    for origin in ("README.md", "docs/extending.md"):
        for path in linked((ROOT / origin).read_text(), origin):
            assert path.startswith("docs/") or place_of(path).endswith(".md"), path


@pytest.mark.parametrize(
    ("html", "fetches"),
    [
        ('<script src="https://cdn.example/x.js"></script>', True),
        ("<link rel=stylesheet href=//fonts.example/css>", True),
        ('<img src="pictures/x.png"><a href="https://example.org">a link</a>', False),
    ],
)
def test_what_a_page_would_fetch_is_noticed(html: str, fetches: bool) -> None:
    assert bool(FETCHED.search(html)) == fetches
