"""Write the golden checkpoint of the current format version."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from stream_moe.checkpoints.format import VERSION
from tests.golden import AT, HERE, engine

with tempfile.TemporaryDirectory() as state:
    engine(Path(state), until=AT)[0].run()
    written = HERE / f"version-{VERSION}.ckpt"
    shutil.copy(max(Path(state).glob("*.ckpt")), written)
    whole, _ = engine(Path(state) / "whole")
    whole.run()
print(f"{written.name}: {written.stat().st_size:,} bytes; the digest at the end is {whole.tasks[0].learner.digest}")
