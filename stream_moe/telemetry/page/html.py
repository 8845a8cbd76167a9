"""The templates of the pages: everything that is put into one is escaped, unless it is markup of ours."""

from __future__ import annotations

from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


@cache
def environment(*packages: str) -> Environment:
    """Find templates in `templates/` of these packages, and `macros.html` beside this module.

    Examples
    --------
    >>> environment().from_string("<p>{{ name }}</p>").render(name="<i>")
    '<p>&lt;i&gt;</p>'
    """
    loader = ChoiceLoader([PackageLoader(package) for package in (*packages, "stream_moe.telemetry.page")])
    return Environment(
        loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
