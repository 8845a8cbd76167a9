"""Whether a folder is only ours to write to, so that what lies in it may be believed."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_BY_GROUP, _BY_ANYBODY = 0o020, 0o002


def who_else_may_write(folder: Path, *, strict: bool) -> str:
    """Say who else may change what is in a folder, by itself or by putting another in its place.

    Parameters
    ----------
    folder
        It exists. All that it lies in is looked at, up to the root, and every link on the way.
    strict
        Whether all of it must belong to this user or to root, and no group may write. Otherwise only what anybody
        may write to counts: a volume that a group shares belongs to whom the cluster says.

    Returns
    -------
    str
        The first path that is not safe and why, "" where there is none.

    Raises
    ------
    OSError
        If the folder, or one that it lies in, cannot be looked at.

    Notes
    -----
    In a folder with the sticky bit, such as /tmp, anybody may make a folder but not rename another's; so what lies
    there must belong to us. A group that has the user's number is his own, as Linux distributions make it. Access
    lists beyond the mode are not looked at.
    """
    if not hasattr(os, "geteuid"):  # no owners and modes of this kind
        return ""
    us = {0, os.geteuid(), Path("/").stat().st_uid}  # the root's owner may be mapped to another number
    plain, real = Path(os.path.abspath(folder)), folder.resolve()
    for path in dict.fromkeys((*reversed((plain, *plain.parents)), *reversed((real, *real.parents)))):
        found = path.lstat()
        foreign = found.st_uid not in us
        if foreign and (strict or path.parent.stat().st_mode & stat.S_ISVTX):
            return f"{path} belongs to user {found.st_uid}"
        if stat.S_ISLNK(found.st_mode):
            continue  # its own mode says nothing; what it leads to is among the others
        by = _BY_ANYBODY | (_BY_GROUP if strict and found.st_gid not in (0, os.geteuid()) else 0)
        if found.st_mode & by and (path == real or not found.st_mode & stat.S_ISVTX):
            return f"others may write to {path} (mode {stat.S_IMODE(found.st_mode):04o})"
    return ""
