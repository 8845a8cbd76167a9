"""`stream-moe audit`: hold a model to the law that no prediction depends on its own label."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer
from annotated_types import Interval
from typer import Option

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Settings
from stream_moe.cli.outputs import check_writable, write_json
from stream_moe.cli.terminal import say
from stream_moe.errors import ConfigError

if TYPE_CHECKING:
    from stream_moe.evaluation.audit import Check, Stage
    from stream_moe.evaluation.subjects import Subject
    from stream_moe.ports import Stream


class Order(StrEnum):
    """In which order a model is asked about an event and told its label."""

    TEST_THEN_TRAIN = "test-then-train"
    TRAIN_THEN_TEST = "train-then-test"


class AuditSource(s.Source):
    """The stream, of which so many events are scored."""

    events: Annotated[int, Interval(ge=2), Option(help="How many events are scored.")] = 20_000


class AuditSettings(Settings):
    """Of `audit`."""

    first: ClassVar = ("stream", "model", "class", "events", "seed")

    user_class: Annotated[
        str | None,
        Option(
            "--class",
            metavar="MODULE:CLASS",
            help="Audit a class of your own instead; this IMPORTS AND RUNS that module's code, which is "
            "installed or lies in the current directory.",
        ),
    ] = None
    order: Annotated[Order, Option(help="train-then-test makes the mistake on purpose, to see it caught.")] = (
        Order.TEST_THEN_TRAIN
    )
    probes: Annotated[int, s.AT_LEAST_1, Option(help="At how many events labels are changed.")] = 10
    probed: Annotated[int, Interval(ge=2), Option(help="How many events each of these experiments lasts.")] = 1000
    source: AuditSource
    model: s.CpuModel = s.CpuModel()
    output: s.PlainOutput = s.PlainOutput()


def audit(settings: AuditSettings) -> None:
    """Check a model for leaks: change labels and see which predictions move; hold its score against the Bayes rate.

    The exit code is 0 if every check passed, 1 if one failed or no changed label changed anything.
    """
    model, output, order = settings.model, settings.output, settings.order
    check_writable(output.json)
    if settings.user_class is not None and (model.name != s.DEFAULT_MODEL or model.set):
        raise ConfigError(f"--class {settings.user_class}: the class is the model; leave --model and --set out")
    from stream_moe.evaluation import audit as checks

    source, name = settings.source.open(model.seed), settings.user_class or model.name
    make, answers_alone = _subjects(settings, source)
    tell: Callable[[str], None] = (lambda text: None) if output.quiet else say
    tell(f"{name} on {source.name}, seed {model.seed}, {order}")
    found = _laws(settings, source, make, answers_alone)
    for check in found:
        tell(f"  {check.name:<12} {check.verdict:<14} {check.said}")
    tell(f"\n{'events':>12}{'accuracy':>11}{'std. error':>12}{'above Bayes':>13}")
    stages = checks.score(make(), source, settings.source.events, on_stage=lambda stage: tell(_row(stage)))
    bayes = source.bayes_accuracy
    check = checks.check_score(stages, bayes)
    found.append(check)
    tell(f"\n  {check.name:<12} {check.verdict:<14} {check.said}")
    verdict, code = _verdict(found)
    tell(f"\n{verdict}")
    content = {"model": name, "stream": source.name, "seed": model.seed, "order": str(order)}
    content |= {"events": stages[-1].events, "bayes_accuracy": bayes, "checks": [asdict(check) for check in found]}
    content |= {"stages": [asdict(stage) for stage in stages], "verdict": verdict, "exit_code": code}
    write_json(output.json, content)
    if code:
        raise typer.Exit(code)


def _row(stage: Stage) -> str:
    above = "unknown" if stage.sigmas is None else f"{stage.sigmas:+.1f} s.e."
    return f"{stage.events:>12,}{stage.accuracy:>11.2%}{stage.standard_error:>12.2%}{above:>13}"


def _subjects(settings: AuditSettings, source: Stream) -> tuple[Callable[..., Subject], bool]:
    """Return what makes the model afresh, given how often it is asked about an event; and if it has no `step`."""
    from stream_moe.evaluation import subjects

    name, seed = settings.user_class, settings.model.seed
    kind = subjects.load_class(name, Path.cwd()) if name is not None else None
    make_learner = settings.model.factory()

    def make(asks: int = 1) -> Subject:
        subject: Subject = (
            make_learner(source.schema)
            if name is None or kind is None
            else subjects.make_user_subject(name, kind, source.schema, seed, asks)
        )
        return subject if settings.order is Order.TEST_THEN_TRAIN else subjects.TrainThenTest(subject)

    return make, kind is not None and not hasattr(kind, "step")


def _laws(settings: AuditSettings, source: Stream, make: Callable[..., Subject], answers_alone: bool) -> list[Check]:
    """Change labels of the first events and see which predictions move."""
    from stream_moe.evaluation import audit as checks
    from stream_moe.streams.blocks import labelled_blocks

    first = next(labelled_blocks(source, settings.probed, settings.probed), None)
    if first is None:
        raise ConfigError(f"{source.name}: the stream is empty; name one with events")
    x, y, seed = first.x, first.y, settings.model.seed
    found = checks.check_law(make, x, y, source.schema.n_classes, probes=settings.probes, seed=seed)
    if answers_alone and found[0].verdict == checks.PASSED:
        found.append(checks.check_questions(make, x, y))
    return found


def _verdict(found: list[Check]) -> tuple[str, int]:
    from stream_moe.evaluation.audit import FAILED, NOTHING

    failed = [check.name for check in found if check.verdict == FAILED]
    if failed:
        return f"Not honest as run: {', '.join(failed)} failed.", 1
    if any(check.name == "learns" and check.verdict == NOTHING for check in found):
        return "Nothing is shown: the model did not react to any label.", 1
    return "Honest: every check that could fail passed.", 0
