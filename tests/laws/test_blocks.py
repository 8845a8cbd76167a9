"""The first law, over all that a checkpoint holds: it does not depend on how the log was cut into blocks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from stream_moe.checkpoints.checkpoint import Checkpoint
from tests import golden

NERVOUS = {"group": "2", "drift_delta": "0.3", "warning_delta": "0.9"}
SMALL = {"trees": "2", "window": "50", "prototypes": "4"}


@pytest.mark.parametrize(("model", "options"), [("adaptive-tree", NERVOUS), ("driftmoe", SMALL)])
def test_a_checkpoint_has_the_same_bytes_however_the_log_was_cut(
    tmp_path: Path, model: str, options: dict[str, str]
) -> None:
    """With labels that come late, drifts of inputs and labels, and experts that watch themselves."""
    contents = []
    for rows in (4096, 1000, 37):
        state = tmp_path / str(rows)
        engine, _ = golden.engine(state, until=3000, model=model, options=options)
        engine.settings = replace(engine.settings, block_rows=rows)
        engine.run()
        contents.append(sorted(state.glob("*.ckpt"))[-1].read_bytes())
        if model == "adaptive-tree":
            assert engine.tasks[0].learner.report().experts[0].drifts > 0
    first, *others = (Checkpoint.from_bytes(content) for content in contents)
    for other in others:
        assert other.plain == first.plain
    assert contents[1:] == contents[:1] * 2
