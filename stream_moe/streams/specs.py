"""What a generated stream is called: a name, then options, as in `sea:function=1,4,1:every=50000:noise=0.2`.

An option with several values makes one concept of each, in that order; one with a single value holds for all of
them. `positions` or `every` then say when a concept gives way to the next. Nothing is compiled here, so that a
mistake is reported at once.
"""

from __future__ import annotations

import difflib
import itertools
import math
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from stream_moe.errors import ConfigError

MAX_SEED = 2**48 - 1  # all that java.util.Random keeps of a seed
DRIFT_OPTIONS = ("positions", "every", "width", "ramp")
MAX_CONCEPTS = 1000
MAX_EVENT = 10**15


@dataclass(frozen=True, slots=True)
class Option:
    """A number that a generator takes; `generators.toml` says what its fields are."""

    low: float
    high: float
    default: float | None = None
    step: Literal["whole", "percent", "any"] = "whole"
    shapes: bool = False

    def read(self, where: str, text: str) -> float:
        """Return the value that `text` stands for; ConfigError if it does not fit."""
        try:
            value = float(text) if self.step != "whole" else int(text)
        except ValueError:
            value = math.nan
        fits = self.low <= value <= self.high
        if not fits or (self.step == "percent" and abs(value * 100 - round(value * 100)) > 1e-9):
            kind = {"whole": "a whole number", "percent": "a share in whole percents", "any": "a number"}[self.step]
            raise ConfigError(f"{where}={text}: must be {kind} from {self.low:g} to {self.high:g}")
        return value


SEED = Option(0, MAX_SEED)
_TABLE = tomllib.loads(resources.files(__package__).joinpath("generators.toml").read_text(encoding="utf-8"))
GENERATORS = {
    name: {key: Option(**facts) for key, facts in options.items()} for name, options in _TABLE["options"].items()
}
BENCHMARKS: dict[str, str] = _TABLE["benchmarks"]
DRIFTS_OF_MOA = {f"{name}_moa": f"{BENCHMARKS[name]}:ramp=moa" for name in ("led_a", "led_g", "sea_a", "sea_g")}
ALIASES = {**BENCHMARKS, **DRIFTS_OF_MOA}


@dataclass(frozen=True, slots=True)
class Drifts:
    """When concepts change: at each position, over `width` events around it, or endlessly, every `every` events."""

    positions: tuple[int, ...]
    widths: tuple[int, ...]
    ramp: Literal["capymoa", "moa"] = "capymoa"
    every: int | None = None


@dataclass(frozen=True, slots=True)
class Spec:
    """A generated stream: the generator, the options of each concept, and the drifts that join them."""

    generator: str
    concepts: tuple[dict[str, float], ...]
    drifts: Drifts | None


def is_generated(text: str) -> bool:
    """Tell whether a stream's name, up to its options, is that of a generator or a benchmark."""
    return text.partition(":")[0] in GENERATORS or text.partition(":")[0] in ALIASES


def parse(text: str, seed: int = 1) -> Spec:
    """Read NAME[:OPTION=VALUE[,VALUE...]]...; options after a benchmark's name replace those it stands for.

    Where `seed` and `model` are not given they are the seed. ConfigError for an option that does not exist, comes
    twice or does not fit.

    Examples
    --------
    >>> spec = parse("sea:function=1,4:positions=1000:width=100")
    >>> spec.concepts[1]
    {'function': 4, 'noise': 0.1, 'seed': 1}
    >>> spec.drifts
    Drifts(positions=(1000,), widths=(100,), ramp='capymoa', every=None)
    """
    name, _, rest = text.partition(":")
    given = _options(text, rest)
    if name in ALIASES:
        name, _, rest = ALIASES[name].partition(":")
        standing = _options(text, rest)
        if "every" in given:
            standing.pop("positions", None)
        given = {**standing, **given}
    options = {**GENERATORS[name], "seed": SEED}
    for key in given:
        if key not in options and key not in DRIFT_OPTIONS:
            known = [*options, *DRIFT_OPTIONS]
            close = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            raise ConfigError(f"{text}: {name} has no option {key!r}; {hint}it has {', '.join(known)}")
    values = {key: [options[key].read(f"{text}: {key}", v) for v in given[key]] for key in given if key in options}
    count = max(map(len, values.values()), default=1)
    for key, several in values.items():
        if len(several) > 1 and options[key].shapes:
            raise ConfigError(f"{text}: {key} decides the shape of an event; give it one value for all concepts")
        if len(several) not in {1, count}:
            apart = f"has {len(several)} values where another option has {count}"
            raise ConfigError(f"{text}: {key} {apart}; give one for each concept, or one for all")
    if count > MAX_CONCEPTS:
        raise ConfigError(f"{text}: {count:,} concepts; there may be {MAX_CONCEPTS:,}")
    defaults = {key: seed if option.default is None else option.default for key, option in options.items()}
    concepts = [
        {key: values[key][k % len(values[key])] if key in values else default for key, default in defaults.items()}
        for k in range(count)
    ]
    return Spec(name, tuple(concepts), _drifts(text, count, given))


def _options(text: str, rest: str) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for part in rest.split(":") if rest else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not (key and equals and value):
            raise ConfigError(f"{text}: {part!r} is not an option; write NAME:OPTION=VALUE:OPTION=VALUE,VALUE,...")
        if key in given:
            raise ConfigError(f"{text}: {key} is given twice; give it once, several values separated by commas")
        given[key] = [item.strip() for item in value.split(",")]
    return given


def _drifts(text: str, count: int, given: dict[str, list[str]]) -> Drifts | None:
    """Read the options that say when concepts change."""

    def whole(key: str, low: int) -> tuple[int, ...]:
        option = Option(low, MAX_EVENT)
        return tuple(int(option.read(f"{text}: {key}", value)) for value in given.get(key, ()))

    ramp = given.get("ramp", ["capymoa"])
    if ramp not in (["capymoa"], ["moa"]):
        raise ConfigError(f"{text}: ramp={','.join(ramp)}: choose capymoa or moa")
    if count == 1:
        if useless := [key for key in ("positions", "every", "width") if key in given]:
            raise ConfigError(f"{text}: {useless[0]} needs several concepts; give an option several values, as a=1,2")
        return None
    positions, every, widths = whole("positions", 1), whole("every", 1), whole("width", 0) or (0,)
    if ("positions" in given) == ("every" in given):
        raise ConfigError(
            f"{text}: {count} concepts; say when they change, with either positions={'N,' * (count - 2)}N "
            "or every=N (in turn, without end)"
        )
    if every:
        if len(every) > 1 or len(widths) > 1 or ramp != ["capymoa"] or widths[0] > every[0]:
            raise ConfigError(
                f"{text}: every takes one number, one width no larger than it, and the ramp capymoa; "
                "for more use positions"
            )
        return Drifts((), widths, every=every[0])
    if len(positions) != count - 1 or any(a >= b for a, b in itertools.pairwise(positions)):
        raise ConfigError(
            f"{text}: {count} concepts need {count - 1} positions, each after the one before; got {len(positions)}"
        )
    if len(widths) not in {1, len(positions)}:
        raise ConfigError(f"{text}: width has {len(widths)} values; give one for all drifts, or {len(positions)}")
    if ramp == ["moa"] and min(widths) < 1:
        raise ConfigError(f"{text}: ramp=moa needs width=N of at least 1 (MOA divides by it)")
    every_width = widths * len(positions) if len(widths) == 1 else widths
    return Drifts(positions, every_width, "moa" if ramp == ["moa"] else "capymoa")
