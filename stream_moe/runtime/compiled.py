"""How everything that runs per event is compiled, and where the machine code is kept.

numba keeps compiled code beside the source file and compiles it again when THAT file changes. Our kernels call
each other across files, so a change in one would leave stale code in the callers of it. The cache is therefore
kept in a directory of the user's named after the content of all kernel files together: any change, an upgrade say,
starts a new one. The environment variable NUMBA_CACHE_DIR moves it.

Sums are vectorised, and as many lanes as a processor has, so many partial sums there are. So that a state is the same
to the last bit on all machines that share a group, code is made for what x86-64 processors have had since 2013, on
whichever newer one it runs: no slower (`stream-moe replay electricity`, led_a and rbf_f: 0.98 to 1.02 of the CPU time
of code for a processor with AVX-512). NUMBA_CPU_NAME and NUMBA_CPU_FEATURES say otherwise.

What numba keeps it reads back as pickle, so whoever may write there runs code as us. The directory is 0700, and used
only where it and all that it lies in belong to us or to root, and nobody else may write to any of them.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable
from functools import cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any, overload

from llvmlite import binding
from numba.core import config

from stream_moe.runtime.kernel import Kernel
from stream_moe.runtime.trust import who_else_may_write

_log = logging.getLogger(__name__)
_MARK = b"@compiled"
_OURS = re.compile(r"kernels-[0-9a-f]{16}")
_TARGET, _NEEDS = "haswell", ("avx2", "bmi2", "fma")
_KEPT_DAYS = 30  # a cache of other kernels, not used for so long, is deleted


def _fix_target() -> None:
    """Compile for the same processor everywhere; where this one is another kind, for this one."""
    if config.CPU_NAME is None and config.CPU_FEATURES is None:
        features = binding.get_host_cpu_features()
        if all(features.get(name) for name in _NEEDS):
            # In the environment, which numba reads anew whenever it has changed, and which child processes get.
            os.environ |= {"NUMBA_CPU_NAME": _TARGET, "NUMBA_CPU_FEATURES": ""}
            config.reload_config()


_fix_target()  # before anything is compiled: numba asks once


@overload
def compiled(function: Callable[..., Any]) -> Callable[..., Any]: ...
@overload
def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def compiled(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Compile a function with numba: cached on disk, without the interpreter's lock, zero division as in numpy.

    Examples
    --------
    >>> from stream_moe.experts.trees.split import entropy  # decorated with @compiled
    >>> import numpy as np
    >>> float(entropy(np.array([1.0, 1.0, 2.0])))
    1.5
    """
    if function is None:
        return lambda decorated: compiled(decorated, **options)
    directory = cache_directory()
    former, config.CACHE_DIR = config.CACHE_DIR, directory
    try:  # numba reads the directory when it decorates; other code's cache stays where it is
        options = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True, "nopython": True} | options
        kernel = Kernel(function, options)
        if directory:
            kernel.enable_caching()
        return kernel
    finally:
        config.CACHE_DIR = former


_began_empty = set[str]()  # directories that held nothing when this process took them


def is_cold() -> bool:
    """Whether this start compiles what will be there at the next: it began with nothing, of these kernels."""
    directory = cache_directory()
    return bool(directory) and (directory in _began_empty or _holds_nothing(directory))


def _holds_nothing(directory: str) -> bool:
    return next(Path(directory).rglob("*.nbi"), None) is None


@cache
def cache_directory() -> str:
    """Directory of the compiled code of exactly these kernels; empty, and told once, where nothing can be kept."""
    sources = sorted(Path(__file__).parents[1].rglob("*.py"))
    contents = [content for source in sources if _MARK in (content := source.read_bytes())]
    base = Path(config.CACHE_DIR or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "stream_moe")
    try:
        directory = base.expanduser() / f"kernels-{hashlib.sha256(b''.join(contents)).hexdigest()[:16]}"
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = directory.resolve()  # what was looked at is what is used
        if unsafe := who_else_may_write(directory, strict=True):
            raise PermissionError(errno.EPERM, unsafe)
        directory.chmod(0o700)
        os.utime(directory)
        tempfile.TemporaryFile(dir=directory).close()
        _delete_unused(directory.parent)
    except (OSError, RuntimeError) as error:  # the latter where there is no home
        if parent_process() is None:  # which has told it
            _log.warning(
                "%s: %s; compiled code cannot be kept, so each start compiles anew, for some 15 seconds: name a "
                "directory that you, and nobody else, may write to in NUMBA_CACHE_DIR",
                base,
                getattr(error, "strerror", error),
            )
        return ""
    if _holds_nothing(str(directory)):
        _began_empty.add(str(directory))
    return str(directory)


def _delete_unused(base: Path) -> None:
    """Delete caches of other kernels that were not used for long: directories of ours that hold nothing else."""
    for other in base.glob("kernels-*"):
        found = other.lstat()
        if found.st_mtime > time.time() - _KEPT_DAYS * 86400 or not _OURS.fullmatch(other.name):
            continue
        files = [path for path in other.rglob("*") if not path.is_dir()] if stat.S_ISDIR(found.st_mode) else [other]
        if found.st_uid == os.geteuid() and all(".nb" in path.name for path in files):
            shutil.rmtree(other, ignore_errors=True)
