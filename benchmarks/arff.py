"""Events as a file that MOA reads."""

from __future__ import annotations

from pathlib import Path

from stream_moe.types import Float32, Int32, Schema


def write(path: Path, x: Float32, y: Int32, schema: Schema) -> None:
    kinds = [
        f"{{{','.join(map(str, range(len(f.categories))))}}}" if f.categories else "numeric" for f in schema.features
    ]
    head = "".join(f"@attribute a{i} {kind}\n" for i, kind in enumerate(kinds))
    classes = ",".join(map(str, range(schema.n_classes)))
    with path.open("w") as file:
        file.write(f"@relation stream\n{head}@attribute class {{{classes}}}\n@data\n")
        for row, label in zip(x.tolist(), y.tolist(), strict=True):
            file.write(",".join(["?" if v != v else f"{v:.9g}" for v in row] + [str(label)]) + "\n")  # noqa: PLR0124
