"""What the API reference shows, and the check that all of it is documented."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from types import ModuleType
from typing import Any

# One page of the reference for each title; a page shows the public names of its modules.
REFERENCE = {
    "Data and reports": ("types", "report", "snapshot", "errors", "ports"),
    "Models": ("models.contract", "models.tickets", "models.catalogue", "models.state"),
    "Streams": ("streams", "streams.files"),
    "Scores": ("evaluation.scoreboard", "evaluation.metrics", "evaluation.intervals", "evaluation.comparison"),
    "Experts": ("experts.base",),
    "Engine": ("engine.replay", "engine.loop", "engine.checkpoint"),
}


def documented_modules() -> list[ModuleType]:
    """Every module that has a place in the reference."""
    return [import_module(f"stream_moe.{name}") for names in REFERENCE.values() for name in names]


def public_members(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """Classes and functions that a module defines itself and whose names have no underscore in front."""
    for name, value in vars(module).items():
        mine = getattr(value, "__module__", None) == module.__name__
        if mine and not name.startswith("_") and (inspect.isclass(value) or inspect.isroutine(value)):
            yield name, value


def public_methods(cls: type) -> Iterator[tuple[str, Any]]:
    """Methods and properties of a class that come from this repository, inherited ones too."""
    for owner in cls.__mro__:
        if owner.__module__.partition(".")[0] not in {"stream_moe", "connectors"} and owner is not cls:
            continue
        for name, value in vars(owner).items():
            described = isinstance(value, property | classmethod | staticmethod) or inspect.isfunction(value)
            if described and not name.startswith("_"):
                yield name, getattr(cls, name)


def sections_of(text: str) -> dict[str, str]:
    """Split a numpydoc docstring at its underlined titles."""
    found = re.split(r"^(\w[\w ]*)\n-{3,}\n", text, flags=re.M)
    return dict(zip(found[1::2], found[2::2], strict=True))


def is_data(value: Any) -> bool:
    return inspect.isclass(value) and (hasattr(value, "__dataclass_fields__") or issubclass(value, tuple))


def missing_in(name: str, value: Any, *, with_sections: bool) -> Iterator[str]:
    """What the docstring of a class or function lacks, one line each.

    Parameters
    ----------
    name
        What the lines call it.
    value
        The class or function.
    with_sections
        Whether each of its parameters has to be described, and an example be there: of the names in
        `stream_moe.__all__`.
    """
    text = inspect.getdoc(value) or ""
    generated = is_data(value) and text.startswith(f"{value.__name__}(")  # what `dataclass` and `NamedTuple` write
    if not text or generated:
        yield f"{name}: no docstring"
        return
    if not with_sections:
        return
    sections = sections_of(text)
    described = re.findall(r"^(\w[\w, ]*)", sections.get("Parameters", "") + sections.get("Attributes", ""), re.M)
    named = {word for line in described for word in re.split(r",\s*", line)}
    for parameter in inspect.signature(value).parameters:
        if parameter not in named:
            yield f"{name}: parameter {parameter} is not described"
    if "Examples" not in sections:
        yield f"{name}: no Examples section"


def undocumented(public: dict[str, Any], modules: list[ModuleType]) -> list[str]:
    """List what is public and not described.

    Parameters
    ----------
    public
        The names that a user imports, and what they stand for: sections are demanded of these, and a docstring of
        each of their methods.
    modules
        Of these the module itself, each of its public names, and each of their methods needs a docstring.

    Returns
    -------
    list of str
        One line each; empty if all is well.
    """
    found: list[str] = []
    for name, value in public.items():
        found += missing_in(name, value, with_sections=True)
    members = dict(public)
    for module in modules:
        if not (module.__doc__ or "").strip():
            found.append(f"{module.__name__}: no docstring")
        members |= {f"{module.__name__}.{name}": value for name, value in public_members(module)}
    for name, value in members.items():
        if name not in public:
            found += missing_in(name, value, with_sections=False)
        if inspect.isclass(value):
            for method, function in public_methods(value):
                found += missing_in(f"{name}.{method}", function, with_sections=False)
    return sorted(set(found))


def public_face() -> dict[str, Any]:
    """What `stream_moe.__all__` names, without the version."""
    import stream_moe

    return {name: getattr(stream_moe, name) for name in stream_moe.__all__ if name != "__version__"}
