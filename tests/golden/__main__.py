"""Write the golden checkpoints of the current format version."""

from __future__ import annotations

import lzma
import tempfile
from pathlib import Path

from stream_moe.checkpoints.format import VERSION
from tests.golden import AT, HERE, MODEL, engine

for model in (MODEL, "adaptive-tree"):
    with tempfile.TemporaryDirectory() as state:
        engine(Path(state), until=AT, model=model)[0].run()
        content = max(Path(state).glob("*.ckpt")).read_bytes()
        whole, _ = engine(Path(state) / "whole", model=model)
        whole.run()
    written = HERE / (f"version-{VERSION}.ckpt" if model == MODEL else f"version-{VERSION}-{model}.ckpt.xz")
    written.write_bytes(content if model == MODEL else lzma.compress(content))
    print(f"{written.name}: {len(content):,} bytes; the digest at the end is {whole.tasks[0].learner.digest}")
