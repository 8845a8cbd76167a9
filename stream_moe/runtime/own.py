"""Classes of a user's own, named on the command line as package.module:Class."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stream_moe.errors import ConfigError, StreamMoeError, one_line


def load_class(what: str, name: str, folder: Path | None = None) -> type:
    """Import a class, which runs the module's code.

    Parameters
    ----------
    what
        Begins an error, as "--class".
    name
        As package.module:Class.
    folder
        Where its module is looked for too; it stays on the module path, as the class may import more. None = only
        among what is installed, or on PYTHONPATH.

    Raises
    ------
    ConfigError
        If it cannot be imported, in one line.

    Examples
    --------
    >>> load_class("--class", "json:JSONDecoder").__name__
    'JSONDecoder'
    >>> load_class("--class", "keyword:Nothing")
    Traceback (most recent call last):
    stream_moe.errors.ConfigError: --class keyword:Nothing: keyword has no class 'Nothing'; it has none
    """
    module_name, colon, class_name = name.partition(":")
    if not (module_name and colon and class_name.isidentifier()):
        raise ConfigError(f"{what} {name!r}: write it as package.module:Class")
    if folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # at the end: a file named like a module of ours must not take its place
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise in_one_line(f"{what} {name}", error) from error  # the module is there and misses another
        where = "be on PYTHONPATH" if folder is None else f"lie in {str(folder)!r}"
        raise ConfigError(f"{what} {name}: no module {error.name!r}; it must be installed here or {where}") from None
    except Exception as error:
        raise in_one_line(f"{what} {name}", error) from error
    kind = getattr(module, class_name, None)
    if not isinstance(kind, type):
        own = [key for key, each in vars(module).items() if isinstance(each, type) and not key.startswith("_")]
        shown = ", ".join(own[:10]) + (", ..." if len(own) > 10 else "")
        raise ConfigError(f"{what} {name}: {module.__name__} has no class {class_name!r}; it has {shown or 'none'}")
    return kind


def make(what: str, kind: Callable[..., Any], given: Mapping[str, Any]) -> Any:
    """Make one of a class: with those of the parameters that its constructor has; ConfigError where it raises."""
    try:
        parameters = inspect.signature(kind).parameters
        return kind(**{key: value for key, value in given.items() if key in parameters})
    except StreamMoeError:
        raise
    except Exception as error:
        raise in_one_line(what, error) from error


def in_one_line(what: str, error: Exception) -> ConfigError:
    """Return what a user's code raised as one line, with its place."""
    where = traceback.extract_tb(error.__traceback__)[-1]
    return ConfigError(
        f"{what}: {type(error).__name__}: {one_line(error)} ({Path(where.filename).name}, line {where.lineno})"
    )
