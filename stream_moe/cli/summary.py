"""A result as a person wants it: the summary at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from stream_moe.cli.terminal import say

MOST_CLASSES = 12  # in the table of classes
MOST_NAMES = 8  # in a line


def print_summary(result: dict[str, Any]) -> None:
    """Print a result (the dict that goes into the JSON) as a person wants it."""
    if "accuracy" not in result:
        say(f"\n{result['model']} on {result['stream']}: no partition for this member, nothing learnt")
        return
    experts = result["experts"]
    error = result.get("calibration_error")  # a daemon keeps none
    calibration = "" if error is None else f"     calibration error {error:.4f}"
    lines = [
        f"{result['model']} on {result['stream']}, seed {result['seed']}",
        f"  accuracy        {result['accuracy']:.4%}   (recent {result['window_accuracy']:.2%})",
        f"  kappa           {result['kappa']:.4f}     kappa_M {result['kappa_majority']:.4f}, "
        f"kappa_temporal {result['kappa_temporal']:.4f}",
        f"  log-loss        {result['log_loss']:.4f}" + calibration,
        *_answers(result),
        f"  balanced        {result['balanced_accuracy']:.4%}   (mean recall; G-mean {result['g_mean']:.4f})",
        *_rare(result),
        f"  speed           {speed_line(result)}start-up {result['startup_seconds']:.2f} s)",
        f"  memory          {result['peak_memory_bytes'] / 2**20:,.0f} MiB at its peak",
        f"  drift           {drifts_line(result)}",
        f"  state           {result['state_digest'][:16]}",
    ]
    if dead := result.get("dead_letters"):  # a replay has none
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in dead.items())
        lines.append(f"  dead letters    {sum(dead.values()):,}: {reasons}")
    lines += _strange(result)
    lines += [f"  {name:<15} {value}" for name, value in result.get("metrics", {}).items()]
    if len(experts) > 1:
        lines.append(f"  asleep          {sum(e['asleep'] for e in experts)} of {len(experts)} experts")
    lines += ["", "  expert                 routed   trained  accuracy   nodes  drifts"]
    for number, expert in enumerate(experts):
        lines.append(
            f"  {number:>2} {expert['kind']:<18}{expert['routed']:>8,} {expert['trained']:>9,}"
            f"{expert['accuracy']:>10.2%}{expert['nodes']:>8,}{expert['drifts']:>8}"
        )
    lines += ["", *_classes(result)]
    if len(parts := result.get("partitions", [])) > 1:
        lines += ["", "  partition    position    events  accuracy  state"]
        lines += [
            f"  {part['partition']:>9}{part['position']:>12,}{part['events']:>10,}{part['accuracy']:>10.2%}  "
            f"{part['state_digest'][:16]}"
            for part in parts
        ]
    say("\n" + "\n".join(lines))


def _strange(result: dict[str, Any]) -> Iterator[str]:
    """What the records of a log brought instead of the schema's features."""
    for what, names in (("features gone", result.get("features_gone")), ("no features", result.get("unknown_names"))):
        if names:
            left = len(names) - MOST_NAMES
            yield f"  {what:<15} {', '.join(list(names)[:MOST_NAMES])}" + (f" and {left:,} more" if left > 0 else "")
    if grown := result.get("schema_grown"):
        yield f"  {'schema grew by':<15} {', '.join(f'{kind} {n:,}' for kind, n in grown.items())}"


def _rare(result: dict[str, Any]) -> Iterator[str]:
    """How well the probabilities rank, and that a model is no better than a fixed answer."""
    if "window_roc_auc" in result:  # a daemon keeps none
        yield f"  ranking         {_ranking(result)}"
    from stream_moe.report import no_better

    scores = result["accuracy"], result["kappa_majority"], result["class_labels"]
    if (largest := no_better(*scores, result.get("mean_cost"), result.get("class_costs"))) is not None:
        share = result["class_labels"][largest] / sum(result["class_labels"])
        yield f"  warning         no better than always naming {result['classes'][largest]} ({share:.2%} right)"


def _answers(result: dict[str, Any]) -> Iterator[str]:
    """By which rule was answered, and what the answers cost."""
    if not result.get("answers"):
        return
    yield f"  answers         {result['answers']}"
    costs = result["class_costs"]
    best = min(range(len(costs)), key=costs.__getitem__)
    yield (
        f"  cost            {result['mean_cost']:.4f} an answer ({result['cost']:,.1f} in all); always naming "
        f"{result['classes'][best]} costs {costs[best]:.4f}"
    )


def _ranking(result: dict[str, Any]) -> str:
    from stream_moe.evaluation.window import is_ranked

    area, precision, events = (result[f"window_{name}"] for name in ("roc_auc", "average_precision", "events"))
    names = result["classes"]
    if area is None and not is_ranked(len(names), result["window"]):
        return f"not known: {len(names)} classes have too many probabilities in --window {result['window']}"
    if area is None:
        return f"not known: no two classes in the last {events:,} labels"
    of = f"of {names[1]}" if len(names) == 2 else "mean of one class against the rest"
    return f"ROC AUC {area:.4f}, average precision {precision:.4f} ({of}; last {events:,} labels)"


def _classes(result: dict[str, Any]) -> Iterator[str]:
    """Lay the scores of each class out; of many those that are found least."""
    from stream_moe.experiments.table import aligned
    from stream_moe.telemetry.text import CLASS_COLUMNS, class_rows, least_found

    rows = class_rows(result["classes"], result, MOST_CLASSES)
    yield from (f"  {line}" for line in aligned([CLASS_COLUMNS, *rows], {0}))
    if left := least_found(len(rows), len(result["classes"])):
        yield f"  ({left}; --json has all)"


def speed_line(result: dict[str, Any]) -> str:
    """Tell the speed over the events that were timed: a daemon's without the first block, and of this process."""
    if not result["seconds"]:
        return "not known: all was one block ("
    timed = round(result["events_per_second"] * result["seconds"])
    per_cpu = f", {result['events_per_cpu_second']:,.0f} a CPU-second" if result["events_per_cpu_second"] else ""
    speed = f"{result['events_per_second']:,.0f} events/s{per_cpu}"
    return f"{speed} ({timed:,} events in {_seconds(result['seconds'])} s, "


def drifts_line(result: dict[str, Any]) -> str:
    counts = result.get("drifts_by_scope") or {"mixture": result["drifts"]}
    names = {"mixture": "the mixture", "expert": "experts", "feature": "features", "label": "labels"}
    return ", ".join(f"{counts[scope]:,} in {name}" for scope, name in names.items() if scope in counts)


def _seconds(seconds: float) -> str:
    return f"{seconds:,.2f}" if seconds >= 1 else f"{seconds:.2g}"  # a short run took some time as well
