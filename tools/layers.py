"""Draw the layers of docs/architecture.md from the table there.

`python -m tools.layers` writes docs/pictures/layers.svg.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "pictures" / "layers.svg"
WIDTH, LEFT, TOP, BAND, GAP, CHIP = 900, 150, 14, 40, 8, 26
LETTER = 8.2  # width of a character of 13 px

STYLE = """
    svg { --ground: #ffffff; --ink: #1f2933; --soft: #52606d; --band: #f3f6f9; --edge: #b8c2cc; --chip: #e3edf9; }
    @media (prefers-color-scheme: dark) {
      svg { --ground: #11181f; --ink: #e8edf2; --soft: #a9b5c1; --band: #1b252f; --edge: #44525f; --chip: #1a2d45; }
    }
    text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: var(--ink); }
    .name { font: 600 14px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
    .soft { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: var(--soft); }
    .band { fill: var(--band); stroke: var(--edge); }
    .chip { fill: var(--chip); stroke: var(--edge); }
    .arrow { stroke: var(--soft); fill: none; }"""


def layers(page: str) -> list[tuple[str, list[str]]]:
    """Name and modules of each layer, from the top, as the page's table has them.

    Examples
    --------
    >>> layers("| layer | modules | for |\\n| --- | --- | --- |\\n| top | `a`, `b` | seeing |\\n\\n")
    [('top', ['a', 'b'])]
    """
    table = page.partition("| layer |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| (\w+) \| (.*?) \|", table, re.M)
    return [(name, re.findall(r"`(\w+)`", modules)) for name, modules in rows]


def chip(x: float, y: float, word: str) -> tuple[str, float]:
    """A module's box and the width that it takes."""
    width = LETTER * len(word) + 16
    box = f'<rect class="chip" x="{x:.0f}" y="{y:.0f}" width="{width:.0f}" height="{CHIP}" rx="5"/>'
    return f'  {box}<text x="{x + 8:.0f}" y="{y + 18:.0f}">{word}</text>', width


def draw(page: str) -> str:
    """The picture, as SVG."""
    rows = layers(page)
    right, height = WIDTH - 150, TOP + len(rows) * (BAND + GAP) + 22
    title = "The layers of stream_moe, the upper ones import the lower ones: " + "; ".join(
        f"{name}: {', '.join(modules)}" for name, modules in rows
    )
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="title">',
        f'  <title id="title">{title}</title>',
        f"  <style>{STYLE}\n  </style>",
        f'  <rect width="{WIDTH}" height="{height}" style="fill: var(--ground)"/>',
    ]
    for number, (name, modules) in enumerate(rows):
        y = TOP + number * (BAND + GAP)
        lines.append(f'  <rect class="band" x="30" y="{y}" width="{right - 30}" height="{BAND}" rx="6"/>')
        lines.append(f'  <text class="name" x="44" y="{y + 25}">{name}</text>')
        x = float(LEFT)
        for module in modules:
            text, width = chip(x, y + (BAND - CHIP) / 2, module)
            lines.append(text)
            x += width + 8
    bottom = TOP + len(rows) * (BAND + GAP) - GAP
    lines.append(f'  <path class="arrow" d="M14 {TOP} V{bottom} m-5 -8 l5 8 l5 -8"/>')
    said = "a module imports from its own row and those below"
    lines.append(f'  <text class="soft" x="30" y="{bottom + 18}">{said}</text>')
    lines.append(f'  <rect class="band" x="{right + 20}" y="{TOP}" width="120" height="{bottom - TOP}" rx="6"/>')
    lines.append(f'  <text class="name" x="{right + 34}" y="{TOP + 25}">connectors</text>')
    for number, word in enumerate(("cli wires them", "to the engine;", "they import only", "the ground")):
        lines.append(f'  <text class="soft" x="{right + 34}" y="{TOP + 52 + 17 * number}">{word}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def main() -> None:
    PICTURE.write_text(draw((ROOT / "docs" / "architecture.md").read_text()))
    print(PICTURE.relative_to(ROOT))


if __name__ == "__main__":
    main()
