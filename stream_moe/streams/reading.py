"""What a user says about how a file is to be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read, where it does not say so itself.

    Parameters
    ----------
    label
        Column of the labels; None = the last one.
    nominal
        Columns that are nominal although they hold numbers.
    delay
        Column that says after how many more events each label arrives, no feature then; see `open_stream`.
    drop
        Columns to leave out.
    missing
        Texts that mean "no value", besides those of `stream_moe.values.MISSING`.
    decimal
        "," where 3,5 is three and a half; None = each column's values decide.
    thousands
        What parts thousands, as "," in 2,986.93; None = each column's values decide.
    separator
        What parts the columns of a CSV; None = its lines decide.
    encoding
        Python's name of what a text file is in; None = UTF-8, or as it shows itself.
    unpacked
        Megabytes that the file may become in memory; None = as `stream_moe.streams.allowance` has it.
    classes
        Whether the labels are classes (True) or a number (False); None = their values decide.
    usually_nominal
        As `nominal`, but a column that is not there is no error.
    """

    label: str | None = None
    nominal: Sequence[str] = ()
    delay: str | None = None
    drop: Sequence[str] = ()
    missing: Sequence[str] = ()
    decimal: str | None = None
    thousands: str | None = None
    separator: str | None = None
    encoding: str | None = None
    usually_nominal: Sequence[str] = ()
    unpacked: int | None = None
    classes: bool | None = None


class FileOptions(TypedDict, total=False):
    """The options of `open_stream` that are of files, each as the attribute of `Reading` of its name."""

    label: str | None
    nominal: Sequence[str]
    delay: str | None
    drop: Sequence[str]
    missing: Sequence[str]
    decimal: str | None
    thousands: str | None
    separator: str | None
    encoding: str | None
    unpacked: int | None
    classes: bool | None
