"""Settings from several places: a flag wins over the environment, that over a TOML file, that over a default."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, create_model
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, SettingsConfigDict
from pydantic_settings import PydanticBaseSettingsSource as Source

from stream_moe.cli import settings as s
from stream_moe.cli.flags import Flag, S, groups_of
from stream_moe.cli.run import RunSettings
from stream_moe.cli.settings import split_names, with_secrets
from stream_moe.errors import ConfigError
from stream_moe.models.catalogue import is_own
from stream_moe.runtime.files import read_toml

ENVIRONMENT = "STREAM_MOE_"
SECRETS = {"kafka": s.SECRETS, "registry": ("password",)}  # by table
TABLES = {name: [each.name for each in fields(group)] for name, group in groups_of(RunSettings).items()}


class Environment(EnvSettingsSource):
    """As pydantic's, for keys of the tables alone; a list is words between commas."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        return None, field_name, True  # a variable by the name of a whole table is somebody else's

    def explode_env_vars(self, field_name: str, field: FieldInfo, env_vars: Any) -> dict[str, Any]:
        if field_name not in TABLES:
            return {}
        found = super().explode_env_vars(field_name, field, env_vars)
        for each in fields(field.annotation):  # type: ignore[arg-type]  # every field is a group of settings
            if each.default_factory is list and each.name in found:
                found[each.name] = split_names(found[each.name])
        return found


def read(kind: type[S], given: dict[Flag, Any], file: Path | None) -> S:
    """Make the settings of a verb of the options `given` on the command line, the environment and a TOML file.

    Their groups are tables of the file, and `STREAM_MOE_<TABLE>_<KEY>` in the environment. ConfigError if the file
    cannot be read, or a value or the name of a key does not fit; no secret is shown.
    """
    content = _content(file)

    class Sources(BaseSettings):
        model_config = SettingsConfigDict(
            env_prefix=ENVIRONMENT, env_nested_delimiter="_", env_nested_max_split=1, extra="ignore"
        )

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: Source, *_: Any, **__: Any
        ) -> tuple[Source, ...]:
            return init_settings, Environment(settings_cls), InitSettingsSource(settings_cls, content)

    groups = groups_of(kind)
    flags = {name: {flag.field: value for flag, value in given.items() if flag.group == name} for name in groups}
    parts: dict[str, Any] = {name: (group, Field(default_factory=group)) for name, group in groups.items()}
    try:
        found = create_model("Settings", __base__=Sources, **parts)(**flags)
    except ValidationError as error:
        raise ConfigError(_first(error, file)) from None
    _check_code(found, flags.get("model", {}))
    own = {flag.field: value for flag, value in given.items() if not flag.group}
    return kind(**own, **{name: getattr(found, name) for name in groups})


def _check_code(found: Any, flags: dict[str, Any]) -> None:
    """Raise ConfigError where a file or the environment names code that is to run."""
    if (model := getattr(found, "model", None)) is None:
        return
    named = {"--model": [model.name] if "name" not in flags else [], "--expert": model.experts}
    if "experts" in flags:
        del named["--expert"]
    for flag, names in named.items():
        for name in names:
            if flag == "--expert" or is_own(name):
                raise ConfigError(
                    f"{flag} {name}: a class of your own is code that runs; name it on the command line alone, not "
                    "in the environment or the file of --config"
                )


def _content(file: Path | None) -> dict[str, Any]:
    if file is None:
        return {}
    content = read_toml(file, f"--config {file}")
    for name, table in content.items():
        if name not in TABLES or not isinstance(table, dict):
            tables = ", ".join(f"[{table}]" for table in TABLES)
            raise ConfigError(f"--config {file}: unknown key {name!r}; it takes the tables {tables}")
        if unknown := [key for key in table if key not in TABLES[name]]:
            takes = ", ".join(TABLES[name])
            raise ConfigError(f"--config {file}: unknown key {unknown[0]!r}; [{name}] takes {takes}")
    for table, names in SECRETS.items():  # now, so that a file which holds a secret gives way to the environment
        if table in content:
            content[table] = with_secrets(content[table], names)
    return content


def _first(error: ValidationError, file: Path | None) -> str:
    """Describe the first mistake and its place in one line, without a value that may be a secret."""
    found = error.errors(include_url=False)[0]
    table, *rest = map(str, found["loc"])
    key = rest[0] if rest else ""
    variable = f"{ENVIRONMENT}{table}_{key}".upper()
    where = variable if variable in os.environ else f"--config {file}: [{table}] {key}"
    value = "" if table in SECRETS else f" {found['input']!r}"
    return f"{where}{value}: {found['msg'].replace('Input should', 'it should')}"
