"""`stream-moe audit`: hold a model to the law that no prediction depends on its own label."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stream_moe.cli import options as o
from stream_moe.errors import ConfigError

if TYPE_CHECKING:
    from stream_moe.evaluation.audit import Check, Stage
    from stream_moe.evaluation.subjects import Subject


class Order(StrEnum):
    """In which order a model is asked about an event and told its label."""

    TEST_THEN_TRAIN = "test-then-train"
    TRAIN_THEN_TEST = "train-then-test"


def audit(
    stream: o.Stream,
    model: o.Model = o.DEFAULT_MODEL,
    user_class: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="MODULE:CLASS",
            help="Audit a class of your own instead; this IMPORTS AND RUNS that module's code, which is "
            "installed or lies in the current directory.",
        ),
    ] = None,
    events: Annotated[int, typer.Option(min=2, help="How many events are scored.")] = 20_000,
    seed: o.Seed = 1,
    order: Annotated[
        Order, typer.Option(help="train-then-test makes the mistake on purpose, to see it caught.")
    ] = Order.TEST_THEN_TRAIN,
    probes: Annotated[int, typer.Option(min=1, help="At how many events labels are changed.")] = 10,
    probed: Annotated[int, typer.Option(min=2, help="How many events each of these experiments lasts.")] = 1000,
    label: o.Label = None,
    nominal: o.Nominal = "",
    settings: o.Settings = [],  # noqa: B006 (typer copies it)
    threads: o.Threads = 1,
    json: o.JsonFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")] = False,
) -> None:
    """Check a model for leaks: change labels and see which predictions move; hold its score against the Bayes rate.

    The exit code is 0 if every check passed, 1 if one failed or no changed label changed anything.
    """
    o.check_writable(json)
    if user_class is not None and (model != o.DEFAULT_MODEL or settings):
        raise ConfigError(f"--class {user_class}: the class is the model; leave --model and --set out")
    from stream_moe.evaluation import audit as checks
    from stream_moe.evaluation import subjects
    from stream_moe.streams import open_stream
    from stream_moe.streams.blocks import labelled_blocks

    name = user_class or model
    kind = subjects.load_class(user_class, Path.cwd()) if user_class is not None else None
    make_learner = o.learner_factory(model, seed, settings, threads, "cpu")
    source = open_stream(stream, seed=seed, label=label, nominal=o.split_names(nominal))

    def make(asks: int = 1) -> Subject:
        subject: Subject = (
            make_learner(source.schema)
            if kind is None
            else subjects.make_user_subject(name, kind, source.schema, seed, asks)
        )
        return subject if order is Order.TEST_THEN_TRAIN else subjects.TrainThenTest(subject)

    def say(line: str) -> None:
        if not quiet:
            typer.echo(line)

    def tell(check: Check) -> None:
        say(f"  {check.name:<12} {check.verdict:<14} {check.said}")

    say(f"{name} on {source.name}, seed {seed}, {order}")
    first = next(labelled_blocks(source, probed, probed), None)
    if first is None:
        raise ConfigError(f"{source.name}: the stream is empty; name one with events")
    found = checks.check_law(make, first.x, first.y, source.schema.n_classes, probes=probes, seed=seed)
    if kind is not None and not hasattr(kind, "step") and found[0].verdict == checks.PASSED:
        found.append(checks.check_questions(make, first.x, first.y))
    for check in found:
        tell(check)
    say(f"\n{'events':>12}{'accuracy':>11}{'std. error':>12}{'above Bayes':>13}")

    def row(stage: Stage) -> None:
        above = "unknown" if stage.sigmas is None else f"{stage.sigmas:+.1f} s.e."
        say(f"{stage.events:>12,}{stage.accuracy:>11.2%}{stage.standard_error:>12.2%}{above:>13}")

    stages = checks.score(make(), source, events, on_stage=row)
    bayes = source.bayes_accuracy
    found.append(checks.check_score(stages, bayes))
    say("")
    tell(found[-1])
    verdict, code = _verdict(found)
    say(f"\n{verdict}")
    content = {"model": name, "stream": source.name, "seed": seed, "order": str(order), "events": stages[-1].events}
    content |= {"bayes_accuracy": bayes, "checks": [asdict(check) for check in found]}
    o.write_json(
        json, content | {"stages": [asdict(stage) for stage in stages], "verdict": verdict, "exit_code": code}
    )
    if code:
        raise typer.Exit(code)


def _verdict(found: list[Check]) -> tuple[str, int]:
    from stream_moe.evaluation.audit import FAILED, NOTHING

    failed = [check.name for check in found if check.verdict == FAILED]
    if failed:
        return f"Not honest as run: {', '.join(failed)} failed.", 1
    if any(check.name == "learns" and check.verdict == NOTHING for check in found):
        return "Nothing is shown: the model did not react to any label.", 1
    return "Honest: every check that could fail passed.", 0
