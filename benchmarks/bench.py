"""The table of speeds: ours and the peers in turn, medians and ratios.

    python -m benchmarks.bench [--repeats 3] [--only mixture,tree,forest,accuracy,router,threads,start,memory,kafka,
                               guarantee,scrapes,recovery,metrics] [--out DIR]

Every run is a process of its own; ours and the peer's alternate, so that a machine that slows down slows both.
Writes DIR/bench.json and DIR/bench.svg, and prints the table. `make bench` installs what it needs (CapyMOA, Java 17).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import arff

CLI = [sys.executable, "-m", "stream_moe"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Row = dict[str, Any]


def shell(command: list[str], **environment: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=ENVIRONMENT | environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def replay(stream: str, model: str, events: int, seed: int, *options: str) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        arguments = ["replay", stream, "--model", model, "--events", str(events), "--seed", str(seed)]
        shell([*CLI, *arguments, "--quiet", "--device", "cpu", "--json", str(path), *options])
        result: Row = json.loads(path.read_text())
        return result


def peer(system: str, stream: str, events: int, seed: int) -> Row:
    lines = shell([sys.executable, "-m", "benchmarks.peers", system, stream, str(events), str(seed)]).splitlines()
    result: Row = json.loads(lines[-1])
    return result


def spread(values: list[float]) -> Row:
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def versus(name: str, target: str, ours: Callable[[], float], theirs: Callable[[], float], repeats: int) -> Row:
    """Alternate two measurements; the ratio is the median of the ratios pair by pair."""
    pairs = [(ours(), theirs()) for _ in range(repeats)]
    mine, others = zip(*pairs, strict=True)
    ratio = statistics.median(a / b for a, b in pairs)
    return {"what": name, "target": target, "ours": spread(list(mine)), "peer": spread(list(others)), "ratio": ratio}


def speeds(
    model: str, events: int, system: str, peer_events: int, stream: str, target: str, repeats: int, file: str = ""
) -> Row:
    """Our model against a peer on the same stream; the slower one gets fewer events.

    A mixture has two threads, as Java's collector runs beside the peer's loop; a single tree has one. `file` is
    the stream as the peer reads it, where it cannot make it.
    """
    n_threads = "1" if model == "hoeffding-tree" else "2"

    def ours() -> float:
        return float(replay(stream, model, events, 1, "--threads", n_threads)["events_per_second"])

    def theirs() -> float:
        return float(peer(system, file or stream, peer_events, 1)["events_per_second"])

    return versus(f"{model} / {system}, {stream}, events/s", target, ours, theirs, repeats)


def mixture(repeats: int) -> list[Row]:
    streams = ("led_a", "rbf_f", "sea_a")
    return [speeds("driftmoe-data", 300_000, "published", 15_000, s, "50 x", repeats) for s in streams]


def tree(repeats: int) -> list[Row]:
    streams = ("led", "rbf_f", "sea")
    rows = [speeds("hoeffding-tree", 1_000_000, "moa-tree", 200_000, s, "4 x", repeats) for s in streams]
    if "STREAM_MOE_DATA" in os.environ:
        values = [replay("covtype", "hoeffding-tree", 581_012, 1)["events_per_second"] for _ in range(repeats)]
        rows.append({"what": "hoeffding-tree, covtype, events/s", "target": "200,000", "ours": spread(values)})
    return rows


def forest(repeats: int) -> list[Row]:
    from stream_moe.streams import open_stream

    row = partial(speeds, "driftmoe", target="50 x", repeats=repeats, system="arf-100")
    rows = [row(events=200_000, peer_events=10_000, stream=stream) for stream in ("led_a", "rbf_f")]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "electricity.arff"
        stream = open_stream("electricity")
        block = next(stream.blocks(45_312))
        arff.write(file, block.x, block.y, stream.schema)
        return [*rows, row(events=45_312, peer_events=10_000, stream="electricity", file=str(file))]


def accuracy(_: int) -> list[Row]:
    rows = []
    pairs = [("hoeffding-tree", "moa-tree", s, 200_000) for s in ("led", "rbf_f", "sea")]
    pairs += [("driftmoe-data", "published", s, 200_000) for s in ("led_a", "rbf_f", "sea_a")]
    for model, system, stream, events in pairs:
        ours = [replay(stream, model, events, seed)["accuracy"] * 100 for seed in (1, 2, 3)]
        theirs = [peer(system, stream, events, seed)["accuracy"] * 100 for seed in (1, 2, 3)]
        gap = statistics.mean(ours) - statistics.mean(theirs)
        what = f"accuracy, {model} and {system}, {stream}, {events:,} events, 3 seeds"
        rows.append(
            {"what": what, "target": "gap within 0.5", "ours": spread(ours), "peer": spread(theirs), "gap": gap}
        )
    return rows


def part(*arguments: object) -> float:
    """Events a second of a part by itself."""
    return float(shell([sys.executable, "-m", "benchmarks.parts", *map(str, arguments)]))


def router(repeats: int) -> list[Row]:
    what = "router alone, 24-256-128-12, forward + backward + Adam, one core, events/s"
    return [{"what": what, "target": "150,000", "ours": spread([part("router") for _ in range(repeats)])}]


def threads(repeats: int) -> list[Row]:
    def compare(rows: int, model: str) -> Row:
        what = f"12 trees, 2 threads / 1, runs of {rows:,} rows as in {model}, rbf_f, events/s"
        return versus(what, "1.7 x", partial(part, "trees", 2, rows), partial(part, "trees", 1, rows), repeats)

    return [compare(256, "driftmoe-data"), compare(2048, "driftmoe")]


def start(repeats: int) -> list[Row]:
    first = ["replay", "electricity", "--events", "2000", "--quiet", "--model", "driftmoe-data"]

    def timed(arguments: list[str], **environment: str) -> float:
        begin = time.perf_counter()
        shell([*CLI, *arguments], **environment)
        return time.perf_counter() - begin

    def cold() -> float:
        with tempfile.TemporaryDirectory() as cache:
            return timed(first, NUMBA_CACHE_DIR=cache)

    timed(first)
    measured = {
        ("--help, s", "0.5"): [timed(["--help"]) for _ in range(repeats)],
        ("replay of 2,000 events, warm, s", "4"): [timed(first) for _ in range(repeats)],
        ("the same, nothing compiled yet, s", "40"): [cold() for _ in range(repeats)],
    }
    return [{"what": what, "target": target, "ours": spread(v)} for (what, target), v in measured.items()]


def memory(_: int) -> list[Row]:
    peaks = [replay("sea_a", "driftmoe-data", n, 1)["peak_memory_bytes"] / 2**20 for n in (1_000_000, 10_000_000)]
    what = "peak memory at 1,000,000 and 10,000,000 events, sea_a, MiB"
    return [{"what": what, "target": "flat", "ours": {"min": peaks[0], "median": peaks[1], "max": peaks[1]}}]


def kafka(repeats: int) -> list[Row]:
    from benchmarks.kafka_loop import daemon_against_bare_loop

    ours, theirs = daemon_against_bare_loop(repeats)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    what = "daemon on a real broker, at-least-once / bare poll + send loop, events/s"
    return [{"what": what, "target": "0.6 x", "ours": spread(ours), "peer": spread(theirs), "ratio": ratio}]


def guarantee(repeats: int) -> list[Row]:
    from benchmarks.kafka_loop import exactly_once_against_at_least_once

    ours, theirs = exactly_once_against_at_least_once(repeats)
    ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    what = "daemon on a real broker, exactly-once / at-least-once, default block, events/s"
    return [{"what": what, "target": "0.75 x", "ours": spread(ours), "peer": spread(theirs), "ratio": ratio}]


def scrapes(repeats: int) -> list[Row]:
    from benchmarks.kafka_loop import loaded_against_not

    rows = []
    for name, load in (
        ("10 scrapes and 5 page loads a second", "--scrapes 10 --pages 5 --slow 20"),
        ("300 scrapes and 100 page loads a second", "--scrapes 300 --pages 100 --slow 20"),
    ):
        pairs = loaded_against_not(repeats, load)
        ours, theirs = ([float(each["events_per_second"]) for each in side] for side in zip(*pairs, strict=True))
        ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
        what = f"daemon under {name} and 60 slow or silent connections / without, events/s"
        rows.append({"what": what, "target": "0.95 x", "ours": spread(ours), "peer": spread(theirs), "ratio": ratio})
        seen = [loaded["load"] for loaded, _ in pairs]
        for held in ("threads", "files"):
            more = [float(each["late"][held] - each["early"][held]) for each in seen]
            rows.append({"what": f"{held} more at its end than after 3 s", "target": "0", "ours": spread(more)})
        answered = [each["answered_per_second"] for each in seen]
        rows.append({"what": "answers a second", "target": "none", "ours": spread(answered)})
    return rows


def recovery(repeats: int) -> list[Row]:
    from benchmarks.kafka_loop import recovery_seconds

    return [
        {
            "what": f"restart with {model}, newest checkpoint 100,000 events behind, to the first new event, s",
            "target": "none",
            "ours": spread([recovery_seconds(model, 100_000) for _ in range(repeats)]),
        }
        for model in ("driftmoe", "driftmoe-data")
    ]


def metrics(repeats: int) -> list[Row]:
    from benchmarks.metrics_cost import telemetry_share

    pairs = [("driftmoe", "led_a", 60_000), ("driftmoe-data", "led_a", 200_000), ("hoeffding-tree", "sea", 400_000)]
    if "STREAM_MOE_DATA" in os.environ:
        pairs += [("driftmoe", "covtype", 60_000), ("driftmoe-data", "covtype", 200_000)]
    rows = []
    for model, stream, events in pairs:
        runs = (telemetry_share(model, stream, events) for _ in range(repeats))
        shares, detectors, speeds = map(list, zip(*runs, strict=True))
        what = f"telemetry of {model} on {stream} at {statistics.median(speeds):,.0f} events/CPU-s, % of the rest"
        what += f", {statistics.median(detectors):.1f} of it the drift detectors"
        rows.append({"what": what, "target": "2", "ours": spread(shares)})
    return rows


_PARTS = (
    *(mixture, tree, forest, accuracy, router, threads, start, memory),
    *(kafka, guarantee, scrapes, recovery, metrics),
)
PARTS = {part.__name__: part for part in _PARTS}


def show(row: Row) -> None:
    def cell(values: Row | None) -> str:
        if values is None:
            return ""
        low, middle, high = (f"{v:,.0f}" if v >= 1000 else f"{v:.4g}" for v in values.values())
        return f"{middle} ({low} - {high})"

    last = f"{row['ratio']:.2f} x" if "ratio" in row else f"{row['gap']:+.2f}" if "gap" in row else ""
    print(f"| {row['what']} | {row['target']} | {cell(row['ours'])} | {cell(row.get('peer'))} | {last} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--out", type=Path, default=Path("bench"))
    options = parser.parse_args()
    unknown = set(options.only.split(",")) - set(PARTS)
    if unknown:
        parser.error(f"--only {sorted(unknown)[0]}: choose of {', '.join(PARTS)}")
    print("| what | target | ours: median (min - max) | peer | ratio or gap |\n| --- | --- | --- | --- | --- |")
    rows: list[Row] = []
    for name in options.only.split(","):
        for row in PARTS[name](options.repeats):
            show(row)
            rows.append(row)
    options.out.mkdir(parents=True, exist_ok=True)
    processor = re.findall(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text()) if os.name == "posix" else []
    machine = {"cores": os.cpu_count(), "processor": processor[:1]}
    (options.out / "bench.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n")
    plot([row for row in rows if "ratio" in row], options.out / "bench.svg")


def plot(rows: list[Row], path: Path) -> None:
    """How many times the peer's speed each row is, with its target as a mark."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    if not rows:
        return
    figure, axes = pyplot.subplots(figsize=(9, 0.5 * len(rows) + 1), layout="constrained")
    names = [row["what"].removesuffix(", events/s") for row in rows]
    bars = axes.barh(names, [row["ratio"] for row in rows], color="#4c72b0")
    axes.bar_label(bars, [f"{row['ratio']:.2f} x" for row in rows], padding=4)
    axes.plot([float(row["target"].split()[0]) for row in rows], names, "k|", markersize=14, label="target")
    axes.set(
        xscale="log",
        xlim=(0.3, 4 * max(row["ratio"] for row in rows)),
        xlabel="times the speed of the peer in the same run",
    )
    axes.invert_yaxis()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.legend()
    figure.savefig(path)


if __name__ == "__main__":
    main()
