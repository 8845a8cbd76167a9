"""What telemetry costs: its CPU time as a share of the rest of a block's, both of the same run.

Every block is learnt and scored as a replay does it, then watched for drift, reported and handed to the metrics as
the daemon does it. `time.thread_time` of either part, one thread; the first half of the run is not counted.
"""

from __future__ import annotations

import time

import numpy as np

from stream_moe.evaluation.metrics import Prequential
from stream_moe.models import build_model
from stream_moe.report import PartitionReport
from stream_moe.streams import open_stream
from stream_moe.telemetry.metrics import EngineMetrics
from stream_moe.watch import DriftWatch

ROWS = 4096  # the daemon's block


def telemetry_share(model: str, stream: str, events: int) -> tuple[float, float]:
    """Return the share in percent, and the events/s of the rest."""
    source = open_stream(stream)
    learner, quality = build_model(model, source.schema), Prequential(source.schema.n_classes)
    watch, metrics = DriftWatch(source.schema), EngineMetrics()
    watch.compile()
    watch, spent, rest, done = DriftWatch(source.schema), 0.0, 0.0, 0
    for block in source.blocks(ROWS):
        at, times = np.arange(done, done + len(block)), np.zeros(len(block), np.int64)
        begin = time.thread_time()
        proba = learner.step(block.x, block.y)
        quality.update(proba, block.y)
        middle = time.thread_time()
        found = watch.update(learner, block.x, at, times, block.y, at - done + 1)
        report = PartitionReport("running", stream, 0, source.schema.classes, learner.report(), quality.report())
        report.step_seconds, report.drift = {"predict": 0.1, "train": 0.1, "send": 0.1}, watch.report(found)
        report.prediction_latencies = (times + 0.05).tolist()
        metrics.update(report)
        end = time.thread_time()
        done += len(block)
        if done > events // 2:
            rest, spent = rest + middle - begin, spent + end - middle
        if done >= events:
            break
    return 100 * spent / rest, (done - events // 2) / rest
