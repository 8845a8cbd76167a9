"""The documentation site: a hook of mkdocs (`make docs`) that lets the pages read on GitHub be its pages.

The pages link to files of the repository as GitHub shows them. Here a link to a Markdown file outside docs/ leads to
a page of the site, a link to a Python file to a page with its text. The API reference is made from the docstrings. A
public name without one ends the build, and so does whatever a page would fetch from another host.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from tools.public_names import REFERENCE, documented_modules, public_face, public_members, undocumented

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "docker/README.md": "docker.md",
}
LINK = re.compile(r"(\]\(|src=\")(?!https?:|mailto:)([^)#\s\"]+)")
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|link(?![^>]*canonical))\b[^>]*?(?:src|href)=\"?((?:https?:)?//[^\"\s>]+)"
)


def place_of(path: str) -> str:
    """Where the site has a file of the repository (both from their roots)."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.md"


def origin_of(place: str) -> str:
    """The file of the repository that a page of the site was made from."""
    return next((path for path, there in OUTSIDE.items() if there == place), f"docs/{place}")


def linked(text: str, origin: str) -> list[str]:
    """Files of the repository that a page links to."""
    return [posixpath.normpath(posixpath.join(posixpath.dirname(origin), link)) for _, link in LINK.findall(text)]


def relinked(text: str, origin: str) -> str:
    """The page's text with its links as the site needs them.

    Examples
    --------
    >>> relinked("[a](docs/speed.md#growth) [b](docker/README.md)", "README.md")
    '[a](speed.md#growth) [b](docker.md)'
    >>> relinked("[a](../examples/sqlite_log.py) [b](speed.md)", "docs/python.md")
    '[a](source/examples/sqlite_log.py.md) [b](speed.md)'
    """
    here = posixpath.dirname(place_of(origin))

    def new(match: re.Match[str]) -> str:
        (path,) = linked(match[0], origin)
        return match[1] + posixpath.relpath(place_of(path), here or ".")

    return LINK.sub(new, text)


def reference_pages() -> dict[str, str]:
    """Text of each page of the API reference, by place."""
    shown = {"The public names": [f"{value.__module__}.{name}" for name, value in public_face().items()]}
    pages = {"The public names": "What `from stream_moe import ...` gives.\n\n"}
    for title, names in REFERENCE.items():
        modules = [module for module in documented_modules() if module.__name__.removeprefix("stream_moe.") in names]
        members = [f"{module.__name__}.{name}" for module in modules for name, _ in public_members(module)]
        shown[title] = [name for name in members if name not in shown["The public names"]]
        pages[title] = "".join(f"`{m.__name__}`: {(m.__doc__ or '').splitlines()[0]}\n\n" for m in modules)
    return {
        f"reference/{title.lower().replace(' ', '-')}.md": f"# {title}\n\n{pages[title]}"
        + "".join(f"::: {name}\n\n" for name in names)
        for title, names in shown.items()
    }


def on_config(config: MkDocsConfig) -> None:
    """Refuse to build while something public is not described."""
    if found := undocumented(public_face(), documented_modules()):
        raise PluginError("\n  ".join(["these public names lack a part of their docstring:", *found]))


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages that do not lie in docs/."""
    texts = {origin: (ROOT / origin).read_text() for origin in OUTSIDE}
    texts |= {f"docs/{file.src_uri}": file.content_string for file in files.documentation_pages()}
    sources = sorted(
        {path for origin, text in texts.items() for path in linked(text, origin) if path.endswith(".py")}
    )
    made = {OUTSIDE[origin]: texts[origin] for origin in OUTSIDE} | reference_pages()
    made |= {place_of(path): f"# {path}\n\n````python\n{(ROOT / path).read_text()}````\n" for path in sorted(sources)}
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Let a page's links lead to pages of the site."""
    place = page.file.src_uri
    return markdown if place.startswith(("reference/", "source/")) else relinked(markdown, origin_of(place))


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that fetches something from elsewhere when it is looked at."""
    for path in Path(config.site_dir).rglob("*.html"):
        if found := FETCHED.search(path.read_text()):
            raise PluginError(f"{path}: the page would fetch {found[1]}; the site has to work without a network")
