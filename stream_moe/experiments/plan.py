"""What an experiment is: a TOML file, checked before anything runs, and the grid of runs it stands for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import product
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictFloat, StrictInt, StrictStr, ValidationError

from stream_moe import __version__
from stream_moe.errors import ConfigError, DataError
from stream_moe.runtime.files import read_toml

Value = StrictBool | StrictInt | StrictFloat | StrictStr
Name = Annotated[StrictStr, Field(min_length=1)]
Count = Annotated[StrictInt, Field(ge=1)]
Delay = Annotated[StrictInt, Field(ge=0)]
Item = TypeVar("Item")
_WANTED = {  # by pydantic's name of what is wrong
    "bool_type": "true or false",
    "dict_type": "a table, as {key = value}",
    "float_type": "a number",
    "int_type": "a whole number",
    "list_type": "a list, as [...]",
    "string_type": "a text in quotes",
}
MOST_RUNS = 10_000  # beyond it a grid is a slip of the pen


@dataclass(frozen=True, slots=True)
class Run:
    """One cell of the grid: a replay."""

    stream: str
    model: str
    settings: tuple[tuple[str, str], ...]
    seed: int
    events: int | None
    label_delay: int
    folds: int | None

    @property
    def key(self) -> str:
        """Hex digits that stand for all that defines the result, and name its file."""
        path = Path(self.stream)
        file = [path.stat().st_size, path.stat().st_mtime_ns] if path.is_file() else None
        what = [__version__, self.stream, file, self.model, self.settings, self.seed, self.events, self.label_delay]
        return hashlib.sha256(json.dumps([*what, self.folds]).encode()).hexdigest()[:16]

    @property
    def variant(self) -> str:
        """What tells runs of one model apart, seeds aside: settings, delay, folds."""
        from stream_moe.evaluation.comparison import variant_of

        return variant_of(self.to_dict())

    def arguments(self) -> list[str]:
        """Return the arguments of `stream-moe` that make this run."""
        optional = {"--events": self.events, "--label-delay": self.label_delay or None, "--folds": self.folds}
        return [
            *("replay", self.stream, "--model", self.model, "--seed", str(self.seed), "--device", "cpu"),
            *(word for flag, value in optional.items() if value is not None for word in (flag, str(value))),
            *(word for key, value in self.settings for word in ("--set", f"{key}={value}")),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON and CSV."""
        return {
            "stream": self.stream,
            "model": self.model,
            "settings": ", ".join(f"{key}={value}" for key, value in self.settings),
            "seed": self.seed,
            "label_delay": self.label_delay,
            "folds": self.folds,
        }


class Experiment(BaseModel):
    """An experiment file. Every key but `streams` and `models` may be left out.

    A key that takes one value or a list of them is an axis of the grid. `settings` is a list of tables; within one
    table each list is an axis, and the tables add up: so a grid need not be a full rectangle.

    Examples
    --------
    >>> plan = Experiment(streams=["sea_a"], models=["driftmoe-data"], seeds=[1, 2], settings=[{"top_k": [1, 2, 3]}])
    >>> runs = plan.runs()
    >>> len(runs), runs[0].settings
    (6, (('top_k', '1'),))
    """

    model_config = ConfigDict(extra="forbid")

    name: Annotated[StrictStr, Field(pattern=r"^[A-Za-z0-9][\w. -]*$")] = "experiment"
    about: StrictStr = ""
    streams: Annotated[list[Name], Field(min_length=1)]
    models: Annotated[list[Name], Field(min_length=1)]
    settings: list[dict[str, Value | list[Value]]] = []
    seeds: Annotated[list[Delay], Field(min_length=1)] = [1]
    events: Count | None = None
    label_delay: Delay | Annotated[list[Delay], Field(min_length=1)] = 0
    folds: Annotated[StrictInt, Field(ge=2)] | None = None
    tensorboard: StrictBool = False
    published: dict[str, dict[str, StrictFloat | StrictInt]] = {}

    def runs(self) -> list[Run]:
        """Return the grid, seed by seed: a first seed of everything is there before the second begins."""
        settings = list(_settings(self.settings))
        delays = self.label_delay if isinstance(self.label_delay, list) else [self.label_delay]
        grid = product(self.seeds, self.streams, delays, self.models, settings)
        return [
            Run(stream, model, chosen, seed, self.events, delay, self.folds)
            for seed, stream, delay, model, chosen in grid
        ]


def _settings(tables: Sequence[dict[str, Any]]) -> Iterator[tuple[tuple[str, str], ...]]:
    if not tables:
        yield ()
    for table in tables:
        axes = [
            [(key, _text(v)) for v in (value if isinstance(value, list) else [value])] for key, value in table.items()
        ]
        yield from product(*axes)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def shipped() -> dict[str, Path]:
    """Return the experiments that come with the package, by name."""
    folder = Path(str(resources.files("stream_moe.experiments"))) / "files"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(
    name_or_path: str,
    *,
    events: int | None = None,
    seeds: list[int] | None = None,
    streams: list[str] | None = None,
    models: list[str] | None = None,
    check: bool = True,
) -> Experiment:
    """Read an experiment by the name of one that is shipped, or by its path; the keywords replace what it says.

    With `check` false, names of streams, models and settings are taken as they are. ConfigError if it cannot be read,
    or anything in it does not fit: an unknown key, stream, model or setting, a wrong type, a value twice.
    """
    path = shipped().get(name_or_path, Path(name_or_path))
    if not path.is_file():
        raise ConfigError(
            f"{name_or_path!r} is neither a file nor an experiment's name; the names are {', '.join(shipped())}"
        )
    content = read_toml(path)
    content.setdefault("name", path.stem)
    own_streams = content.get("streams", [])
    chosen = {"events": events, "seeds": seeds, "streams": streams, "models": models}
    content |= {key: value for key, value in chosen.items() if value is not None}
    try:
        experiment = Experiment.model_validate(content)
    except ValidationError as error:
        raise ConfigError(f"{path}: {_first(error)}") from None
    if strangers := [name for name in experiment.published if name not in own_streams]:
        raise ConfigError(f"{path}: published.{strangers[0]}: not one of its streams")
    if check:
        _check(experiment, str(path))
    return experiment


def _first(error: ValidationError) -> str:
    """Say the first thing that is wrong as one line."""
    found = error.errors(include_url=False)
    first = found[0]
    keys = [part for part in first["loc"] if isinstance(part, int) or _is_key(part)]
    where = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys).removeprefix(".")
    if first["type"] == "extra_forbidden":
        return f"unknown key {where!r}; the keys are {', '.join(Experiment.model_fields)}"
    if first["type"] == "missing":
        return f"{where} is missing"
    kinds = {each["type"] for each in found if each["loc"][: len(keys)] == first["loc"][: len(keys)]}
    way_out = "give " + " or ".join(_WANTED[kind] for kind in sorted(kinds & _WANTED.keys()))
    if not kinds & _WANTED.keys():
        way_out = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    return f"{where} = {first['input']!r}: {way_out}"


def _is_key(part: str) -> bool:
    """Tell a key of the file from pydantic's names of the members of a union."""
    return not (part in {"bool", "int", "float", "str"} or part.startswith(("constrained", "list[", "function")))


def _check(experiment: Experiment, path: str) -> None:
    """Find what pydantic cannot: values twice, names that do not exist, settings that do not fit."""
    delays = experiment.label_delay if isinstance(experiment.label_delay, list) else []
    axes: dict[str, Sequence[Any]] = {
        "seeds": experiment.seeds, "streams": experiment.streams, "models": experiment.models, "label_delay": delays,
    }  # fmt: skip
    for key, values in axes.items():
        if twice := [value for n, value in enumerate(values) if value in values[:n]]:
            raise ConfigError(f"{path}: {key}: {twice[0]!r} is there twice; leave one out")
    sizes = [math.prod(len(v) if isinstance(v, list) else 1 for v in each.values()) for each in experiment.settings]
    runs = math.prod([*(len(values) or 1 for values in axes.values()), sum(sizes) or 1])
    if runs > MOST_RUNS:
        raise ConfigError(f"{path}: {runs:,} runs; an experiment may have {MOST_RUNS:,}")
    settings = list(_settings(experiment.settings))
    if twice := [chosen for n, chosen in enumerate(settings) if chosen in settings[:n]]:
        shown = ", ".join(f"{key}={value}" for key, value in twice[0])
        raise ConfigError(f"{path}: settings: {shown} is there twice; leave one out")
    for stream in experiment.streams:
        _check_stream(stream, experiment.events, path)
    from stream_moe.models.catalogue import build_model

    for model, chosen in product(experiment.models, settings):
        try:
            build_model(model, None, options=dict(chosen))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None


def _check_stream(name: str, events: int | None, path: str) -> None:
    """Refuse a stream that no machine has; one that is merely not here may still be noted when its turn comes."""
    from stream_moe.streams import GENERATED, benchmark_names, open_stream
    from stream_moe.streams.registry import NUMBERS

    if name in NUMBERS:
        raise ConfigError(f"{path}: {name}: its label is a number, and a grid compares accuracies; use `replay`")
    data_sets = set(benchmark_names()) - set(GENERATED)
    if name in data_sets or Path(name).is_file():
        return
    try:
        stream = open_stream(name)
    except (ConfigError, DataError) as error:
        raise ConfigError(f"{path}: streams: {error}") from None
    if events is None and stream.n_events is None:
        raise ConfigError(f"{path}: {name} is endless; say how many events with `events = N` or --events N")
