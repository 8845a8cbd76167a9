"""From a class of settings to the options of a verb: each setting stands once, as a field of a dataclass."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Annotated, Any, ClassVar, TypeVar, get_args, get_origin, get_type_hints

from annotated_types import Interval
from typer.models import OptionInfo, ParameterInfo

from stream_moe.errors import ConfigError

# A flag by such a name holds a secret, unless it only says where the secret lies.
_SECRET_FLAG = re.compile(r"--[\w-]*(passw|passphrase|secret|token|credential|api-?key)[\w-]*(?<!-file)(=|$)", re.I)
_URL_PASSWORD = re.compile(r"://[^\s/:@]*:[^\s/@]+@")


class VerbSettings:
    """What a verb takes: a dataclass whose fields are options, or groups of them (dataclasses as well).

    A field is an option where its annotation holds a `typer.Option` or `typer.Argument`; an `Interval` beside it
    bounds a number. A group may name those of its fields that are options as its `flags`. A field `config` names a
    TOML file: what the command line leaves open then comes from the environment or from there (`sources.read`).
    """

    first: ClassVar[tuple[str, ...]] = ()  # names of options that --help shows first, in this order
    last: ClassVar[tuple[str, ...]] = ("json_logs", "quiet")


S = TypeVar("S", bound=VerbSettings)


@dataclass(frozen=True, eq=False, slots=True)
class Flag:
    """An option: where its value goes, and what typer has to know."""

    group: str  # "" = the settings of the verb themselves
    field: str
    option: str  # as users write it, with _ for -
    parameter: inspect.Parameter

    def of(self, settings: Any) -> Any:
        """Its value in the settings of a verb."""
        return getattr(getattr(settings, self.group) if self.group else settings, self.field)


def flags_of(kind: type) -> list[Flag]:
    """List the options of a class of settings in the order of --help."""
    found = list(_flags(kind, ""))
    first, last = getattr(kind, "first", ()), getattr(kind, "last", ())
    rank = {name: place - len(first) for place, name in enumerate(first)} | {n: i + 1 for i, n in enumerate(last)}
    return sorted(found, key=lambda flag: rank.get(flag.option, 0))


def _flags(kind: type, group: str) -> Iterator[Flag]:
    hints, chosen = get_type_hints(kind, include_extras=True), getattr(kind, "flags", None)
    for each in fields(kind):
        hint = hints[each.name]
        if is_dataclass(hint):
            yield from _flags(hint, each.name)  # type: ignore[arg-type]
        elif get_origin(hint) is Annotated and (chosen is None or each.name in chosen):
            yield _flag(group, each, *get_args(hint))


def _flag(group: str, field: Field[Any], kind: Any, *about: Any) -> Flag:
    info = copy(next(each for each in about if isinstance(each, ParameterInfo)))
    for bounds in about:
        if isinstance(bounds, Interval):
            info.min, info.max = bounds.ge, bounds.le  # type: ignore[assignment]
    if isinstance(info, OptionInfo) and info.default is ...:
        info.default = f"--{field.name.replace('_', '-')}"
    option = info.default if isinstance(info.default, str) else field.name
    default = field.default_factory() if field.default_factory is not MISSING else field.default
    parameter = inspect.Parameter(
        f"{group}_{field.name}" if group else field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, info],
    )
    return Flag(group, field.name, option.partition("/")[0].removeprefix("--").replace("-", "_"), parameter)


def build(kind: type[S], values: dict[Flag, Any]) -> S:
    """Make the settings of a verb of the values of its options."""
    own: dict[str, Any] = {flag.field: value for flag, value in values.items() if not flag.group}
    for name, group in groups_of(kind).items():
        own[name] = group(**{flag.field: value for flag, value in values.items() if flag.group == name})
    return kind(**own)


def groups_of(kind: type) -> dict[str, type]:
    """Return the groups of a class of settings by name."""
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind) if is_dataclass(hints[each.name])}


def shown(settings: VerbSettings) -> dict[str, Any]:
    """Return the settings of a verb as its log names them."""
    return {flag.option: flag.of(settings) for flag in flags_of(type(settings))}


def refuse_secrets(arguments: Iterable[str]) -> None:
    """Raise ConfigError where a secret is on the command line, without repeating it."""
    for argument in arguments:
        if found := _SECRET_FLAG.match(argument):
            what, way_out = found[0].rstrip("="), "STREAM_MOE_KAFKA_SASL_PASSWORD_FILE names a file for Kafka's"
        elif _URL_PASSWORD.search(argument):
            what, way_out = "an address with a password in it", "object stores look there by themselves"
        else:
            continue
        raise ConfigError(
            f"{what}: every user of this machine can read the command line in its process list; "
            f"put secrets into a file or the environment ({way_out})"
        )
