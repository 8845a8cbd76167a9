"""Numbers to predict: our one default, the last value, and CapyMOA's regressors on the same events in the same order.

    python -m benchmarks.numbers [STREAM ...] [--seed 1] [--events 100000] [--peers KNN,SOKNL,SGBR,FIMT,ARF]
    python -m benchmarks.numbers --ablation --events 20000

prints a Markdown table: MAE / RMSE, what the 90 % interval holds (of all targets, and the least and the most of 5,000
in a row), and events per CPU-second. Settings were chosen on the streams of `CHOSEN`; those of `APART` were looked at
afterwards. Of the electricity data, and of weather and powersupply in $STREAM_MOE_DATA, one column is the target.
With --peers CapyMOA's learners follow (extra `baselines`, Java); the slow ones take hours on the long streams.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream_moe.evaluation.numbers import NumberScores
from stream_moe.models.regression.driftmoe import DriftMoERegressor, number_experts
from stream_moe.runtime.extras import need
from stream_moe.streams import open_stream
from stream_moe.types import Float32, Float64, Schema

ROWS, WARM = 2048, 700


@dataclass(frozen=True)
class Source:
    """Where a stream is: a name that `replay` knows, or a file, the label, and columns to leave out."""

    name: str
    label: str | None = None
    drop: tuple[str, ...] = ()
    seed: int = 7


def of_file(name: str, label: str, *drop: str) -> Source:
    return Source(name, label, drop)


CHOSEN = {
    "trump": Source("trump-approval"),
    "water-flow": Source("water-flow"),
    "nswprice": of_file("electricity", "nswprice", "class"),
    "nswdemand": of_file("electricity", "nswdemand", "class"),
    "temperature": of_file("weather", "Temperature", "class"),
    "friedman-gra": Source("friedman-gra"),
}
APART = {
    "vicprice": of_file("electricity", "vicprice", "class"),
    "vicdemand": of_file("electricity", "vicdemand", "class"),
    "transfer": of_file("electricity", "transfer", "class"),
    "powersupply": of_file("powersupply", "attribute0", "class"),
    "dew-point": of_file("weather", "DewPoint", "class"),
    "chick-weights": Source("chick-weights"),
    "airline-passengers": Source("airline-passengers"),
    "friedman-lea": Source("friedman-lea"),
    "friedman-gsg": Source("friedman-gsg"),
    "planes2d": Source("planes2d"),
    "mv": Source("mv"),
}
STREAMS = CHOSEN | APART


def table_of(source: Source, events: int) -> tuple[Schema, Float32, Float64]:
    """Read a stream whole, or its first events."""
    if source.label is None:
        stream = open_stream(source.name, seed=source.seed)
    else:
        path = str(Path(os.environ.get("STREAM_MOE_DATA", "")) / f"{source.name}.csv.xz")
        name = source.name if source.name == "electricity" else path  # which comes with the package
        stream = open_stream(name, label=source.label, drop=source.drop, classes=False)
    block = next(stream.blocks(min(events, stream.n_events or events)))
    return stream.schema, block.x, np.asarray(block.y, np.float64)


def ours(schema: Schema, x: Float32, y: Float64, seed: int, without: str = "") -> tuple[NumberScores, float]:
    """Return our scores, and CPU-seconds; what is compiled is compiled before."""
    NumberScores().update(DriftMoERegressor(schema, seed=seed).step(x[:WARM], y[:WARM]), y[:WARM])
    model, scores = DriftMoERegressor(schema, seed=seed, without=without), NumberScores()
    begin = time.process_time()
    for start in range(0, len(y), ROWS):
        part = slice(start, start + ROWS)
        scores.update(model.step(x[part], y[part]), y[part])
    return scores, time.process_time() - begin


def learners() -> dict[str, Callable[[Any], Any]]:
    """CapyMOA's regressors by name."""
    found = need("capymoa.regressor", "baselines", "--peers")
    return {
        "KNN": lambda schema: found.KNNRegressor(schema=schema),
        "SOKNL": lambda schema: found.SOKNL(schema=schema, ensemble_size=30),
        "SGBR": lambda schema: found.StreamingGradientBoostedRegression(schema=schema),
        "FIMT": lambda schema: found.FIMTDD(schema=schema),
        "ARF": lambda schema: found.AdaptiveRandomForestRegressor(schema=schema, ensemble_size=30),
    }


def peer(make: Callable[[Any], Any], x: Float32, y: Float64) -> tuple[float, float, float]:
    """Return MAE, RMSE and CPU-seconds of a learner of CapyMOA, each event tested, then learnt."""
    from capymoa.stream import NumpyStream

    stream = NumpyStream(np.nan_to_num(x.astype(np.float64)), y, target_type="numeric")
    learner, errors, begin = make(stream.get_schema()), np.empty(len(y)), time.process_time()
    for t in range(len(y)):
        instance = stream.next_instance()
        answer = learner.predict(instance)
        errors[t] = (0.0 if answer is None else float(answer)) - y[t]
        learner.train(instance)
    seconds = time.process_time() - begin
    return float(np.abs(errors).mean()), float(np.sqrt((errors**2).mean())), seconds


def ablation(names: list[str], events: int, seed: int) -> None:
    """Print MAE and RMSE without each kind of expert, as a ratio to those with all of them."""
    tables = [table_of(STREAMS[name], events) for name in names]
    whole = [ours(*table, seed)[0].report() for table in tables]
    print("| without | " + " | ".join(names) + " |\n|" + " --- |" * (len(names) + 1), flush=True)
    for kind in dict.fromkeys(expert.kind for expert in number_experts(1, seed)[1:]):
        found = [ours(*table, seed, kind)[0].report() for table in tables]
        cells = [f"{f.mae / w.mae:.3f} / {f.rmse / w.rmse:.3f}" for f, w in zip(found, whole, strict=True)]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("streams", nargs="*", metavar="STREAM", help=f"of {', '.join(STREAMS)}; all unless named")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--peers", default="", help="CapyMOA's, separated by commas: KNN, SOKNL, SGBR, FIMT, ARF")
    parser.add_argument("--ablation", action="store_true", help="leave out each kind of expert instead")
    given = parser.parse_args()
    if given.ablation:
        ablation(given.streams or list(CHOSEN), given.events, given.seed)
        return
    names = [name for name in given.peers.split(",") if name]
    known = learners() if names else {}
    head = ["stream (events x features)", "last value", "ours", "holds (of 5,000)", "events/s", *names]
    print("| " + " | ".join(head) + " |\n|" + " --- |" * len(head), flush=True)
    for name in given.streams or STREAMS:
        schema, x, y = table_of(STREAMS[name], given.events)
        scores, seconds = ours(schema, x, y, given.seed)
        found, extreme = scores.report(), scores.to_dict()
        runs = ""
        if extreme["coverage_least"] is not None:
            runs = f" ({extreme['coverage_least']:.1%} to {extreme['coverage_most']:.1%})"
        cells = [
            f"{name} ({len(y):,} x {schema.n_features})", f"{found.last_mae:.4g} / {found.last_rmse:.4g}",
            f"{found.mae:.4g} / {found.rmse:.4g}", f"{found.coverage:.1%}{runs}", f"{len(y) / seconds:,.0f}",
        ]  # fmt: skip
        for each in names:
            mae, rmse, took = peer(known[each], x, y)
            cells.append(f"{mae:.4g} / {rmse:.4g} at {len(y) / took:,.0f}/s")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
