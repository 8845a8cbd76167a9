"""A text file as lines, however it is packed and encoded."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
from pathlib import Path
from typing import IO, Any, cast

import zstandard

from stream_moe.errors import DataError

# What the first bytes of a file say, whatever its name says.
PACKED: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"BZh": bz2.open,
    b"\x28\xb5\x2f\xfd": zstandard.open,
}
OTHERS = {
    b"PK\x03\x04": "a zip archive; unpack it (a spreadsheet: save it as CSV)",
    b"PAR1": "a Parquet file; name it .parquet",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet; save it as CSV",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"\x93NUMPY": "a NumPy array; save x and y as an .npz archive",
}
BY_NAME = {".gz": gzip.open, ".xz": lzma.open}
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def is_packed(path: Path) -> bool:
    """Whether a file's first bytes, or its name, say that it is packed."""
    with path.open("rb") as file:
        head = file.read(8)
    return head.startswith(tuple(PACKED)) or path.suffix.lower() in BY_NAME


def open_text(path: Path, encoding: str | None = None) -> IO[str]:
    """Open a text file: packed (gzip, xz, bzip2, zstd) or not, in UTF-8, or in UTF-16 or UTF-32 as it shows itself.

    Parameters
    ----------
    path
        The file.
    encoding
        Python's name of what it is in; None = as above.

    Raises
    ------
    DataError
        If the file is of another kind; the message says which.
    """
    with path.open("rb") as file:
        head = file.read(8)
    for magic, what in OTHERS.items():
        if head.startswith(magic):
            raise DataError(f"{path}: is {what}")
    opener = next((opener for magic, opener in PACKED.items() if head.startswith(magic)), None)
    opener = opener or BY_NAME.get(path.suffix.lower(), open)
    with opener(path, "rb") as packed:
        encoding = encoding or _encoding(packed.read(64))
    if opener is zstandard.open:
        return io.TextIOWrapper(zstandard.open(path, "rb"), encoding=encoding, newline="")
    return cast(IO[str], opener(path, "rt", encoding=encoding, newline=""))


def _encoding(head: bytes) -> str:
    """Tell the encoding by a mark, or by where the zero bytes of plain letters lie."""
    for mark, encoding in MARKS.items():
        if head.startswith(mark):
            return encoding
    even, odd = head[0::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 4:
        return "utf-16-be" if even > odd else "utf-16-le"
    return "utf-8"
