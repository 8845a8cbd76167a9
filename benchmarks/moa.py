"""Events per CPU-second of MOA's learners: by blocks as `capymoa:` models go, by a call a step, and all in Java.

    python -m benchmarks.moa [--stream rbf_f] [--events 200000] [--model HoeffdingTree ...]

"all in Java" is CapyMOA's `prequential_evaluation`, which gives final scores only, over MOA's own generator or, for a
stream that MOA does not generate, over a numpy array.
"""

from __future__ import annotations

import argparse
import os
import time

import numpy as np

from benchmarks.peers import open_stream as moa_stream
from stream_moe.models.catalogue import build_model
from stream_moe.models.foreign import CAPYMOA_NAMES
from stream_moe.streams import open_stream

ROWS = 4096


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stream", default="rbf_f")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--model", action="append", default=[])
    given = parser.parse_args()
    import capymoa.classifier as offered
    from capymoa.core import LabeledInstance
    from capymoa.evaluation import prequential_evaluation

    stream, n = open_stream(given.stream, seed=1), given.events
    block = next(stream.blocks(n))
    print(f"| {given.stream}, {n:,} events, per CPU-second | by blocks | a call a step | all in Java |")
    print("| --- | --- | --- | --- |")
    for name in given.model or ["HoeffdingTree", "NoChange"]:
        build_model(f"capymoa:{name}", stream.schema).step(block.x, block.y)  # until Java has compiled it
        model = build_model(f"capymoa:{name}", stream.schema)
        start = time.process_time()
        blocks = range(0, n, ROWS)
        said = np.concatenate([model.step(block.x[s : s + ROWS], block.y[s : s + ROWS]) for s in blocks])
        ours, right = time.process_time() - start, (said.argmax(1) == block.y).mean()
        theirs = moa_stream(given.stream, 1)
        learner = getattr(offered, CAPYMOA_NAMES.get(name, name))
        start = time.process_time()
        whole = prequential_evaluation(theirs, learner(schema=theirs.get_schema()), max_instances=n, window_size=n)
        java = time.process_time() - start
        each, few = learner(schema=theirs.get_schema()), n // 5
        start = time.process_time()
        for row, label in zip(block.x[:few], block.y[:few], strict=True):
            event = LabeledInstance.from_array(theirs.get_schema(), row, int(label))
            each.predict_proba(event)
            each.train(event)
        called = few / (time.process_time() - start)
        in_java = n / java
        print(f"| {name}, accuracy {100 * right:.2f} and {whole.cumulative.accuracy():.2f} | {n / ours:,.0f} | "
              f"{called:,.0f} | {in_java:,.0f} |", flush=True)  # fmt: skip
    os._exit(0)  # Java's threads would keep the process alive


if __name__ == "__main__":
    main()
