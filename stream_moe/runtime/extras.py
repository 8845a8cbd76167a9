"""Packages that the base installation does without: where one is missing, what brings it is told."""

from __future__ import annotations

import importlib
from typing import Any

from stream_moe.errors import ConfigError, one_line


def need(package: str, extra: str, what: str) -> Any:
    """Import a package of an extra.

    Parameters
    ----------
    package
        As it is imported.
    extra
        As `pip install 'stream-moe[EXTRA]'` takes it.
    what
        What cannot be done without it; begins the error.

    Raises
    ------
    ConfigError
        If it is not installed, or does not import: one line that says what to install.

    Examples
    --------
    >>> need("json", "none", "a result").loads("[1]")
    [1]
    >>> need("no_such_package", "gpu", "--device cuda")
    Traceback (most recent call last):
    stream_moe.errors.ConfigError: --device cuda: needs no_such_package, not installed; pip install 'stream-moe[gpu]'
    """
    try:
        return importlib.import_module(package)
    except Exception as error:  # a package's libraries may be damaged in ways of their own
        top = package.partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and error.name == top:
            raise ConfigError(f"{what}: needs {top}, not installed; pip install 'stream-moe[{extra}]'") from None
        raise ConfigError(
            f"{what}: {top} is installed but does not import ({type(error).__name__}: {one_line(error)}); "
            f"install it anew: pip install --force-reinstall 'stream-moe[{extra}]'"
        ) from error
