"""Named data sets: where they are, and whether a copy is the right one.

A copy comes from the package, from the directory that STREAM_MOE_DATA names, from the user's cache, or, if it is in
none of them, from the loaders of river and scikit-learn, whose copy is then kept in the cache. Whatever came is held
against the registry's shape and checksum before an event of it is handed out.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from stream_moe.errors import DataError
from stream_moe.streams.reading import Reading
from stream_moe.streams.registry import DATA_SETS, DATA_VARIABLE, IN_RIVER, NOMINAL, SUFFIXES, DataSet, by_hand

if TYPE_CHECKING:
    from stream_moe.streams.files import FileStream

logger = logging.getLogger(__name__)


def open_data_set(name: str, reading: Reading) -> FileStream:
    """Open a data set of the registry.

    Where it is to be read in a way of its own it is another table, so its checksum is not looked at.

    Raises
    ------
    DataError
        If it is nowhere and cannot be downloaded, or if the copy found is not what the registry knows.
    """
    from stream_moe.streams.files import read_file

    data_set = DATA_SETS[name]
    path = find(data_set)
    another = reading != Reading()
    if (path is None or path.suffix == ".npz") and another:
        raise DataError(f"{name}: comes with its labels and nominal columns; leave label, nominal and delay out")
    if path is None:
        return _downloaded(data_set)
    drop = (*reading.drop, *(data_set.key if data_set.loader == "package" else ()))
    usual = () if path.suffix == ".npz" else NOMINAL
    stream = read_file(path, name, replace(reading, drop=drop, usually_nominal=usual))
    if not another:
        check(data_set, stream, path)
    return stream


def find(data_set: DataSet) -> Path | None:
    """Return the file of a data set that is on this machine, None if there is none."""
    if data_set.loader == "package":
        return Path(__file__).parent / "data" / "electricity.csv.xz"
    folder = os.environ.get(DATA_VARIABLE)
    places = [Path(folder) / f"{data_set.name}{suffix}" for suffix in SUFFIXES] if folder else []
    return next((path for path in [*places, cached(data_set)] if path.is_file()), None)


def cached(data_set: DataSet) -> Path:
    """Return where a download of the data set is kept."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "stream_moe" / "data" / f"{data_set.name}.npz"


def whereabouts(data_set: DataSet) -> str:
    """Say in a few words where a data set is, or how to get it; nothing is opened or downloaded."""
    if data_set.loader == "package":
        return "shipped"
    if (path := find(data_set)) is not None:
        return f"found at {path}"
    if data_set.loader == "river":
        return "comes with river" if data_set.key[0] in IN_RIVER else "can be downloaded (river)"
    if data_set.loader == "sklearn":
        return "can be downloaded (scikit-learn)"
    return f"not here: put {data_set.name}.csv where {DATA_VARIABLE} points ({data_set.source})"


def check(data_set: DataSet, stream: FileStream, where: Path | str) -> None:
    """Raise DataError, naming `where` it came from, if this is not the data set that the registry knows."""
    found = (stream.n_events, stream.schema.n_features, stream.schema.n_classes)
    known = (data_set.events, data_set.features, data_set.classes)
    way_out = "get it again, or open the file by its path"
    if found != known:
        shown = [f"{n:,} events x {d} features, {c} classes" for n, d, c in (found, known)]
        raise DataError(f"{where}: holds {shown[0]}, where {data_set.name} has {shown[1]}; {way_out}")
    if data_set.sha256 is not None and (digest := checksum(stream)) != data_set.sha256:
        raise DataError(
            f"{where}: not the {data_set.name} known here (SHA-256 of its values {digest[:12]}..., "
            f"not {data_set.sha256[:12]}...); {way_out}"
        )


def checksum(stream: FileStream) -> str:
    """Return the SHA-256 of a data set's values, x then y."""
    digest = hashlib.sha256(stream.x.data)
    digest.update(stream.y.data)
    return digest.hexdigest()


def _downloaded(data_set: DataSet) -> FileStream:
    """Get a data set by its loader, check it, and keep it in the cache for the next time."""
    from stream_moe.streams.downloads import load
    from stream_moe.streams.npz import write_npz

    if data_set.loader is None:
        raise DataError(f"{data_set.name}: not here, and no loader has it; {by_hand(data_set)}")
    if data_set.key[0] not in IN_RIVER:
        logger.warning("%s: not here, downloading it (%s)", data_set.name, data_set.source)
    stream = load(data_set)
    check(data_set, stream, f"{data_set.name}, as {data_set.loader} gave it")
    path = cached(data_set)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(stream, stream.n_events, path)
    except (OSError, DataError) as error:
        logger.warning("%s: could not be kept for the next time (%s)", data_set.name, error)
    return stream
