"""From a class of settings to the options of a verb: each setting stands once, as a field of a dataclass."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, ClassVar, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from annotated_types import Interval
from typer.models import OptionInfo, ParameterInfo

from stream_moe.errors import ConfigError
from stream_moe.shown import holds_secret

# A flag by such a name holds a secret, unless it only says where the secret lies.
_SECRET_FLAG = re.compile(r"--[\w-]*(passw|passphrase|secret|token|credential|api-?key)[\w-]*(?<!-file)(=|$)", re.I)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Settings:
    """Settings of a verb, or a group of them: each subclass is a frozen dataclass.

    A field is an option where its annotation holds a `typer.Option` or `typer.Argument`; an `Interval` beside it
    bounds a number. A group may name those of its fields that are options as its `flags`; a verb may name options
    that --help shows `first`. A field `config` names a TOML file: what the command line leaves open then comes from
    the environment or from there (`sources.read`).
    """

    flags: ClassVar[tuple[str, ...] | None] = None
    first: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        dataclass(frozen=True, kw_only=True)(cls)


S = TypeVar("S", bound=Settings)
_LAST = {"json_logs": 1, "quiet": 2}  # in --help


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


def flags_of(kind: type[Settings]) -> list[Flag]:
    """List the options of a class of settings in the order of --help."""
    rank = {name: place - len(kind.first) for place, name in enumerate(kind.first)} | _LAST
    return sorted(_flags(kind, ""), key=lambda flag: rank.get(flag.option, 0))


def _flags(kind: type[Settings], group: str) -> Iterator[Flag]:
    hints, chosen = get_type_hints(kind, include_extras=True), kind.flags
    for each in fields(kind):  # type: ignore[arg-type]  # made a dataclass as it was subclassed
        hint = hints[each.name]
        if is_dataclass(hint):
            yield from _flags(hint, each.name)  # type: ignore[arg-type]
        elif get_origin(hint) is Annotated and (chosen is None or each.name in chosen):
            yield _flag(group, each, *get_args(hint))


def _flag(group: str, of: Field[Any], kind: Any, *about: Any) -> Flag:
    info = copy(next(each for each in about if isinstance(each, ParameterInfo)))
    for bounds in about:
        if isinstance(bounds, Interval):
            info.min, info.max = bounds.ge, bounds.le  # type: ignore[assignment]
    if isinstance(info, OptionInfo) and info.default is ...:
        info.default = f"--{of.name.replace('_', '-')}"
    option = info.default if isinstance(info.default, str) else of.name
    default = of.default_factory() if of.default_factory is not MISSING else of.default
    parameter = inspect.Parameter(
        f"{group}_{of.name}" if group else of.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=inspect.Parameter.empty if default is MISSING else default,
        annotation=Annotated[kind, info],
    )
    return Flag(group, of.name, option.partition("/")[0].removeprefix("--").replace("-", "_"), parameter)


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


def shown(settings: Settings) -> dict[str, Any]:
    """Return the settings of a verb as its log names them."""
    return {flag.option: flag.of(settings) for flag in flags_of(type(settings))}


def refuse_secrets(arguments: Iterable[str]) -> None:
    """Raise ConfigError where a secret is on the command line, without repeating it."""
    for argument in arguments:
        if found := _SECRET_FLAG.match(argument):
            what, way_out = found[0].rstrip("="), "STREAM_MOE_KAFKA_SASL_PASSWORD_FILE names a file for Kafka's"
        elif holds_secret(argument):
            what, way_out = "an address with a secret in it", "object stores look there by themselves"
        else:
            continue
        raise ConfigError(
            f"{what}: every user of this machine can read the command line in its process list; "
            f"put secrets into a file or the environment ({way_out})"
        )
