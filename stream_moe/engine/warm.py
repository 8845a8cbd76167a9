"""Compiling on two cores: a process beside this one compiles what this one would come to last.

Compiling holds the interpreter's lock, so threads do not help. Both processes keep what they have compiled in one
directory, where each looks before it compiles: they meet in the middle.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

import numpy as np

from stream_moe.drift.watch import DriftWatch
from stream_moe.evaluation.scoreboard import Scoreboard
from stream_moe.experts.compiled import kernel_of
from stream_moe.models.contract import BlockClassifier
from stream_moe.models.driftmoe import DriftMoE
from stream_moe.runtime.compiled import cache_directory, is_cold
from stream_moe.types import Schema

_COLD = is_cold()  # when this process began: to make a learner compiles something already
_helper: list[subprocess.Popen[bytes]] = []  # of this process; its pipe stays open, so that it ends with us


def compile_beside(learner: BlockClassifier) -> None:
    """Start a process that compiles from the other end, where nothing is compiled yet and a second core is free.

    Parameters
    ----------
    learner
        The one that is about to learn. Of others than `DriftMoE` there is too little to share.
    """
    if _helper or not isinstance(learner, DriftMoE) or (os.cpu_count() or 1) < 2:
        return
    if not (_COLD and cache_directory()):
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


def main() -> None:
    """Compile the last things first; end at once when the parent does."""
    schema = Schema.from_dict(json.loads(sys.stdin.buffer.readline()))
    threading.Thread(target=_end_with_parent, daemon=True).start()
    x, y = np.zeros((2, schema.n_features), np.float32), np.zeros(2, np.int32)
    DriftWatch(schema).compile()
    Scoreboard(schema).update(np.zeros((1, schema.n_classes)), y[:1])
    whole = DriftMoE(schema)
    others = {expert.kind for expert in whole.make_experts(schema)} - {"no-change"}
    DriftMoE(schema, without=",".join(sorted(others))).step(x, y)  # the gates, and what is counted
    for expert in reversed(whole.make_experts(schema)):
        kernel_of(expert)


def _end_with_parent() -> Any:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
