"""Finished runs as TensorBoard logs: one directory each, from the timeline in its result."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stream_moe.evaluation.comparison import variant_of
from stream_moe.evaluation.timeline import SCORES
from stream_moe.runtime.extras import need


def check_installed() -> None:
    """Raise ConfigError where TensorBoard is not there: before the runs, not after them."""
    need("tensorboard", "tensorboard", "TensorBoard logs")
    need("torch.utils.tensorboard", "tensorboard", "TensorBoard logs")


def write_logs(folder: Path, results: Iterable[Mapping[str, Any]]) -> None:
    """Write the logs of results that have none; a directory appears under its name only when it is whole."""
    for result in results:
        words = (result["stream"].replace("/", "_"), result["model"], variant_of(result), f"seed {result['seed']}")
        target = folder / f"{' '.join(filter(None, words))} {result['key']}"
        if "timeline" not in result or target.exists():
            continue
        partial = folder / f"{result['key']}.part"
        shutil.rmtree(partial, ignore_errors=True)
        _write(partial, result)
        partial.rename(target)


def _write(folder: Path, result: Mapping[str, Any]) -> None:
    from torch.utils.tensorboard import SummaryWriter

    timeline = result["timeline"]
    with SummaryWriter(str(folder)) as writer:
        for n, events in enumerate(timeline["events"]):
            for name in (*SCORES, "accuracy_since_start", "drift_count"):
                if timeline[name][n] is not None:
                    writer.add_scalar(f"mixture/{name}", timeline[name][n], events)
            for name, samples in timeline["experts"].items():
                for expert, value in enumerate(samples[n]):
                    writer.add_scalar(f"expert {name}/{expert:02d}", value, events)
        writer.add_text(
            "result", "\n\n".join(f"{k}: {v}" for k, v in result.items() if isinstance(v, (str, int, float)))
        )
