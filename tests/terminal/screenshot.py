"""A picture of a real session: `python -m tests.terminal.screenshot OUT.svg SECONDS COMMAND...`.

The command runs in a pseudo-terminal of 90 columns and 24 rows; what its screen shows after so many seconds is drawn.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.style import Style
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from tests.terminal import Terminal

COLUMNS, ROWS = 90, 24
NAMES = {"default": None, "brown": "yellow", "brightblack": "bright_black"}  # as pyte calls them, as rich does
# The text of rich's own, without the fonts that a browser would fetch from elsewhere.
SVG = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px;
line-height: {line_height}px; font-variant-east-asian: full-width; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>
{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">{matrix}</g>
</g>
</svg>
"""
DARK = TerminalTheme(
    (24, 26, 31), (222, 224, 228),
    [(24, 26, 31), (224, 108, 117), (126, 198, 153), (229, 192, 123), (97, 175, 239), (198, 120, 221), (86, 182, 194),
     (222, 224, 228)],
    [(128, 134, 146)] * 8,
)  # fmt: skip


def drawn(cells: dict[int, Any], columns: int) -> Text:
    """Turn a line of pyte's screen into rich's text."""
    line = Text()
    for column in range(columns):
        cell = cells[column]
        line.append(cell.data, Style(color=NAMES.get(cell.fg, cell.fg), bold=cell.bold))
    return line


def main() -> None:
    out, seconds, command = Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    begin = time.monotonic()
    with Terminal(command, COLUMNS, ROWS) as terminal:
        terminal.wait_for(lambda: time.monotonic() - begin > seconds)
        lines = [drawn(terminal.screen.buffer[row], COLUMNS) for row in range(ROWS)]
    console = Console(record=True, width=COLUMNS, file=sys.stdout)
    prompt = Text("$ " + " ".join(Path(word).name if n == 0 else word for n, word in enumerate(command)), "bold")
    while lines and not lines[-1].plain.strip():
        lines.pop()
    for line in (prompt, *lines):
        console.print(line, no_wrap=True)
    out.write_text(
        console.export_svg(title="stream-moe", theme=DARK, code_format=SVG, unique_id="t"), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
