"""Streams of labelled events for replay: generated benchmarks, named data sets and files."""

from __future__ import annotations

import difflib
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from stream_moe.errors import ConfigError
from stream_moe.streams.datasets import open_data_set
from stream_moe.streams.reading import FileOptions, Reading
from stream_moe.streams.registry import DATA_SETS, NUMBERS
from stream_moe.streams.specs import BENCHMARKS, GENERATORS, is_generated

if TYPE_CHECKING:
    from stream_moe.ports import Stream

__all__ = ["benchmark_names", "export_npz", "open_stream"]

GENERATED = [*BENCHMARKS, *GENERATORS]
_LISTS = ("nominal", "drop", "missing")


def benchmark_names() -> list[str]:
    """Return the names `open_stream` knows: generated streams, data sets, then those whose target is a number.

    Examples
    --------
    >>> benchmark_names()[:4]
    ['led_a', 'led_g', 'sea_a', 'sea_g']
    """
    return [*GENERATED, *DATA_SETS, *NUMBERS]


def open_stream(name_or_path: str, *, seed: int = 1, **options: Unpack[FileOptions]) -> Stream:
    """Open a stream by the name of a benchmark or the path of a file.

    Generated streams are endless and depend on the name, its options and `seed` alone. `led_a`, `sea_a` drift
    abruptly and `led_g`, `sea_g` gradually, three times in the first 800,000 events; `rbf_m`, `rbf_f` drift all
    the time, in 2 classes, and `rbf_m5`, `rbf_f5` in 5. The drifts ramp as CapyMOA 0.15 composes them; with `_moa`
    appended (`led_g_moa`) as MOA's own ConceptDriftStream does. `led`, `sea`, `rbf`, `agrawal`, `hyperplane`,
    `tree`, `sine`, `mixed` and `stagger` hold one concept, or several where an option has several values:
    `sea:function=1,4:every=50000:width=1000`. docs/streams.md lists the options.

    `electricity` (6 features; 8 as `electricity8`) comes with the package. Another data set is looked up in the
    directory that the environment variable STREAM_MOE_DATA names, then in the user's cache, and is downloaded if
    it is in neither. `stream_moe.streams.registry.DATA_SETS` has their shapes and licences.

    `trump-approval`, `water-flow`, `chick-weights`, `airline-passengers` (river's data) and `friedman`,
    `friedman-lea`, `friedman-gra`, `friedman-gsg`, `planes2d`, `mv` (river's generators, endless) have a number to
    predict.

    A file is read whole when it is opened: .csv, .tsv, .arff, .jsonl, .libsvm (each also .gz or .xz), .parquet, .npz.
    See `stream_moe.streams.files.read_file` for what its columns become.

    Parameters
    ----------
    name_or_path
        A name of `benchmark_names()`, one that is generated maybe with `:OPTION=VALUE` appended; else a path.
    seed
        Seed of a generated stream; a file does not use it.
    options
        How a file is to be read, by name; see below.

    Other Parameters
    ----------------
    label
        Column of the class labels; if None the last one (that is not `delay`). Files only.
    nominal
        Columns to take as nominal although they hold numbers. Files only.
    delay
        Column that says after how many more events each label arrives in a replay: a whole number from 0 (0 = with
        its event), or nothing where it never does. It is no feature then. None = the replay says it. Files only.
    drop
        Columns to leave out. Files only.
    missing
        Texts that mean "no value", besides the usual ones (`stream_moe.values.MISSING`). Files only.
    decimal, thousands
        What parts decimals and thousands, as "," and "." in 2.986,93; None = each column's values decide. Files only.
    separator
        What parts the columns of a CSV, as ";"; None = its lines decide.
    encoding
        What a text file is in, as "latin-1"; None = UTF-8, or UTF-16 as it shows itself, or else cp1252 (it says so).
    unpacked
        Megabytes that a file may become in memory; None = 256 or 100 times its size on disk, whichever is more, but
        16,384 at most if it is packed.
    classes
        Whether a file's labels are classes (True) or a number to predict (False). None = a label of which all values
        are numbers is one where there are more than 100 different ones, or more than 30 and some are no whole ones.

    Raises
    ------
    ConfigError
        If the name or an option is unknown or does not fit, or what is for files is given to a generated stream.
    DataError
        If a file is not there or cannot be read as events, or a data set cannot be had or is not the one known.

    Examples
    --------
    >>> stream = open_stream("electricity")
    >>> stream.n_events, stream.schema.n_features, stream.schema.classes
    (45312, 6, ('DOWN', 'UP'))
    >>> open_stream("agrawal:function=3:perturbation=0").bayes_accuracy
    1.0
    """
    # Tuples, so that it equals `Reading()` where nothing was said, whatever kind of list said it.
    given: dict[str, Any] = dict(options)
    reading = Reading(**given | {name: tuple(given[name]) for name in _LISTS if name in given})
    _check_separators(reading.decimal, reading.thousands, reading.separator)
    _check_encoding(reading.encoding)
    found = _named(name_or_path, seed, reading)
    return _file(Path(name_or_path), reading) if found is None else found


def _named(name: str, seed: int, reading: Reading) -> Stream | None:
    """Open a stream by its name; None where there is none of that name. ConfigError for options that do not fit."""
    if is_generated(name):
        if replace(reading, delay=None) != Reading():
            raise ConfigError(
                f"{name} is generated: label, nominal and the other options of files do not fit, leave them out"
            )
        if reading.delay is not None:
            raise ConfigError(
                f"{name} is generated and has no column {reading.delay!r}; give one delay for all labels"
            )
        from stream_moe.streams.generated import generate

        return generate(name, seed)

    if name in DATA_SETS:
        return open_data_set(name, reading)

    if name in NUMBERS:
        if reading != Reading():
            raise ConfigError(f"{name} comes from river as it is: leave label and the other options of files out")
        from stream_moe.streams.river_numbers import open_numbers

        return open_numbers(name, seed)
    return None


def _file(path: Path, reading: Reading) -> Stream:
    """Read a file; ConfigError where there is none, and it has no suffix of one."""
    from stream_moe.streams.files import is_known_format, read_file

    if not (is_known_format(path) or path.exists()):
        close = difflib.get_close_matches(str(path), benchmark_names(), 1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(
            f"{str(path)!r} is neither a file nor a stream's name; {hint}the names are {', '.join(benchmark_names())}"
        )
    return read_file(path, None, reading)


def _check_separators(decimal: str | None, thousands: str | None, separator: str | None) -> None:
    if decimal not in (None, ".", ","):
        raise ConfigError(f"decimal {decimal!r}: give . or ,")
    if thousands not in (None, ".", ",", "'", " "):
        raise ConfigError(f"thousands {thousands!r}: give one of , . ' and a blank")
    if separator is not None and len(separator) != 1:
        raise ConfigError(f"separator {separator!r}: give one character")
    if thousands is not None and thousands == (decimal or "."):
        raise ConfigError(f"thousands {thousands!r}: parts decimals already; give another decimal")


def export_npz(stream: Stream, events: int, path: str | os.PathLike[str]) -> int:
    """Write the first `events` of a stream as x float32 [n, d], y int32 [n]; return n.

    The file appears whole or not at all, and holds the schema too, so that `open_stream` gives it back.
    A finite stream may have fewer events than that.

    Raises
    ------
    ConfigError
        If `events` is below 1 or `path` does not end in .npz.
    DataError
        If the file cannot be written.
    """
    from stream_moe.streams.npz import write_npz

    return write_npz(stream, events, Path(path))


def _check_encoding(encoding: str | None) -> None:
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        raise ConfigError(
            f"encoding {encoding!r}: Python knows none of that name; as utf-8, latin-1, cp1252"
        ) from None
