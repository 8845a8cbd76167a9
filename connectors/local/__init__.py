"""Lines of standard input, or of files in a folder, as the engine's source; files as its sink. No broker."""

from __future__ import annotations

from connectors.local.incoming import FolderLines, InputLines
from connectors.local.log import LocalLog
from connectors.local.sink import FileSink
from connectors.local.source import LocalSource

__all__ = ["FileSink", "FolderLines", "InputLines", "LocalLog", "LocalSource"]
