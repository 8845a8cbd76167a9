"""Files that a user names: read with one line for what is wrong, written whole or not at all."""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from stream_moe.errors import ConfigError


def read_text(path: Path, what: str = "", encoding: str = "utf-8") -> str:
    """Return what is in a file; ConfigError, which names `what` (its path unless said), where it is no text."""
    what = what or str(path)
    try:
        return path.read_text(encoding=encoding)
    except OSError as error:
        raise ConfigError(f"{what}: {error.strerror}") from None
    except UnicodeDecodeError:  # whose text would show the content
        raise ConfigError(f"{what}: not UTF-8 text") from None


def read_toml(path: Path, what: str = "") -> dict[str, Any]:
    """Return what is in a TOML file; ConfigError as `read_text`."""
    try:
        return tomllib.loads(read_text(path, what))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{what or path}: not TOML: {error}") from None


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` once all of it is on the disk.

    Raises
    ------
    OSError
        Of the file system; what was there under that name is there still.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder, "it")) as file:
    ...         _ = file.write(b"all")
    ...     [entry.name for entry in Path(folder).iterdir()]
    ['it']
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
