"""Compiling on two cores: a process beside this one compiles what this one would come to last.

Compiling holds the interpreter's lock, so threads do not help. Both processes keep what they have compiled in one
directory, where each looks before it compiles: they meet in the middle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress

import numpy as np

from stream_moe.drift.watch import DriftWatch
from stream_moe.evaluation.scoreboard import Scoreboard
from stream_moe.evaluation.window import WINDOW
from stream_moe.experts.compiled import kernel_of
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.runtime.compiled import is_cold
from stream_moe.runtime.parent import end_with_parent
from stream_moe.types import Schema

_helper: list[subprocess.Popen[bytes]] = []  # of this process; its pipe stays open, so that it ends with us


def compile_beside(learner: BlockClassifier) -> None:
    """Start a process that compiles from the other end, where nothing is compiled yet and a second core is free.

    Parameters
    ----------
    learner
        The one that is about to learn. Of others than `DriftMoE` there is too little to share.
    """
    if (
        _helper
        or not isinstance(learner, DriftMoE)
        or learner.schema.sparse
        or (os.cpu_count() or 1) < 2
        or not is_cold()
    ):
        return
    command = [sys.executable, "-P", "-m", __name__]
    with suppress(OSError):  # without it all is compiled here
        helper = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        _helper.append(helper)
        assert helper.stdin is not None
        with suppress(BrokenPipeError):
            helper.stdin.write(json.dumps(learner.schema.to_dict()).encode() + b"\n")
            helper.stdin.flush()


def compile_scores(schema: Schema, window: int = WINDOW) -> None:
    """Compile what looks at predictions and features beside the learner, or read its machine code."""
    DriftWatch(schema).compile()
    Scoreboard(schema, window).update(np.zeros((1, schema.n_classes)), np.zeros(1, np.int32))


def main() -> None:
    """Compile the last things first; end at once when the parent does."""
    schema = Schema.from_dict(json.loads(sys.stdin.buffer.readline()))
    end_with_parent(sys.stdin.fileno())
    compile_scores(schema)
    experts = DriftMoE().make_experts(schema)
    others = {expert.kind for expert in experts} - {"no-change"}
    gates = DriftMoE(schema, without=",".join(sorted(others)))  # and what is counted
    gates.step(np.zeros((2, schema.n_features), np.float32), np.zeros(2, np.int32))
    for expert in reversed(experts):
        kernel_of(expert)


if __name__ == "__main__":
    main()
