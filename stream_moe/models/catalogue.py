"""Models by name, with settings as strings: what the terminal and configuration files build."""

from __future__ import annotations

import ast
import inspect
import math
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from stream_moe.errors import ConfigError
from stream_moe.experts.kinds import FORMER, KINDS, current_kind, expert_class

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from stream_moe.models.contract import BlockClassifier
    from stream_moe.types import Schema

_TASK, _TWO_STAGE, _NUMBER = "driftmoe-task", "driftmoe-two-stage", "driftmoe-regressor"
_MIXTURES = {
    "driftmoe": "driftmoe.DriftMoE",
    "driftmoe-data": "published.data.DriftMoEData",
    _TASK: "published.task.DriftMoETask",
    _TWO_STAGE: "published.two_stage.DriftMoETwoStage",
}
_FOREIGN = ("river", "capymoa")  # begin the name of another library's model
_FORMER_SETTINGS = {"home": "executor"}
_NOT_SETTINGS = {"schema", "seed", "threads", "device", "class_weight"}  # have a way of their own
MOST_TEXT = 10_000  # characters of a literal
_LARGEST = 2**53  # beyond it a number no longer fits every array's type
_BOOLS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def model_names() -> list[str]:
    """Return the names of the models that predict classes; loads neither torch nor numba.

    Examples
    --------
    >>> model_names()[:3]
    ['driftmoe', 'driftmoe-data', 'driftmoe-task']
    """
    return [*_MIXTURES, *KINDS]


def number_model_names() -> list[str]:
    """Return the names of the models that predict a number."""
    return [_NUMBER]


def is_own(name: str) -> bool:
    """Say whether a model's name is that of a class of the user's own.

    Examples
    --------
    >>> is_own("shop.models:Mine"), is_own("river:ARFClassifier()"), is_own("driftmoe")
    (True, False, False)
    """
    package, colon, _ = name.partition(":")
    return bool(colon) and package not in _FOREIGN


def check_name(name: str, options: Iterable[str] = ()) -> None:
    """Raise ConfigError for a name that cannot be a model; of another library's only its settings are looked at."""
    if is_own(name):
        from stream_moe.models.own import model_class

        model_class(name)
        return
    if name not in {*model_names(), *number_model_names(), *FORMER} and ":" not in name:
        raise ConfigError(
            f"model: {name!r} does not exist; choose one of {', '.join([*model_names(), *number_model_names()])}, "
            "another library's: river:CLASS(...), capymoa:CLASS(...), or a class of your own, package.module:Class"
        )
    if ":" in name and list(options):
        raise ConfigError(f"{name}: its settings go into its brackets, as in river:ARFClassifier(n_models=10)")


def build_model(
    name: str,
    schema: Schema | None,
    *,
    seed: int = 1,
    threads: int = 1,
    device: str = "cpu",
    options: dict[str, str] | None = None,
    class_weight: dict[str, float] | None = None,
    experts: Sequence[str] = (),
) -> BlockClassifier:
    """Make a model.

    Parameters
    ----------
    name
        One of `model_names()` or `number_model_names()`, or another library's as
        `stream_moe.models.foreign.build_baseline` takes it.
    schema
        Features and classes; None = learn them from the events.
    seed, threads, device
        Of a mixture; a single expert takes at most the seed, has one thread and runs on the CPU.
    options
        Settings by name, as text: keyword parameters of the mixture's or the expert's constructor.
    class_weight
        How much an event of a class counts in learning, by name; of the default mixture, or of a single expert.
    experts
        Experts of the user's own beside those of the default mixture, package.module:Class each.

    Raises
    ------
    ConfigError
        If the name or a setting does not exist, or a value does not fit.

    Examples
    --------
    >>> from stream_moe.types import Schema
    >>> model = build_model("knn", Schema.numeric(2, ["no", "yes"]), options={"k": "5"})
    >>> model.report().experts[0].kind
    'knn'
    >>> build_model("knn", None, options={"neighbours": "5"})
    Traceback (most recent call last):
    stream_moe.errors.ConfigError: knn: no setting 'neighbours'; its settings are k, window
    """
    check_name(name, options or {})
    if name == _NUMBER or (schema is not None and schema.target is not None):
        return _of_a_number(name, schema, seed, options or {}, class_weight)
    weighed = {"class_weight": class_weight} if class_weight else {}
    is_sparse = schema is not None and schema.sparse
    if weighed and (is_sparse or ":" in name or (name in _MIXTURES and name != "driftmoe")):
        raise ConfigError(f"{name}: takes no class weights here; driftmoe and the single experts do, over dense rows")
    if experts and (name != "driftmoe" or is_sparse):
        raise ConfigError(f"--expert {experts[0]}: stands beside the experts of driftmoe, over dense rows, alone")
    if schema is not None and is_sparse:
        return _over_sparse_rows(name, schema, seed, threads, options or {})
    if is_own(name):
        from stream_moe.models.own import build_own, model_class

        return build_own(name, schema, seed, _settings(name, model_class(name), options or {}))
    if ":" in name:
        from stream_moe.models.foreign import build_baseline

        return build_baseline(name, schema, seed=seed)
    if name in _MIXTURES:
        mixture = _mixture_class(name)
        settings = _settings(name, mixture, options or {})
        if "device" in inspect.signature(mixture).parameters:
            settings["device"] = device
        elif name == _TASK and device != "cpu":
            raise ConfigError(f"device: {device!r}; {name}'s router learns event by event, on the CPU only")
        if experts:
            from stream_moe.models.own import with_experts

            mixture = with_experts(experts)
        return mixture(schema, seed=seed, threads=threads, **settings, **weighed)
    return _single_expert(current_kind(name), schema, seed, options or {}, class_weight)


def _of_a_number(
    name: str, schema: Schema | None, seed: int, options: dict[str, str], class_weight: dict[str, float] | None
) -> Any:
    """Make the model of a number; ConfigError where name, schema or options are of classes."""
    from stream_moe.models.regression.driftmoe import DriftMoERegressor

    if schema is not None and schema.target is None:
        raise ConfigError(f"{name}: predicts a number, and the label has classes; leave --model out, or add --number")
    if name not in ("driftmoe", _NUMBER):
        what = repr(schema.target.name) if schema is not None and schema.target is not None else "the label"
        raise ConfigError(f"{name}: predicts classes, and {what} is a number; leave --model out, or add --classes")
    if class_weight:
        raise ConfigError(f"{_NUMBER}: takes no class weights, for a number has no classes; leave them out")
    return DriftMoERegressor(schema, seed=seed, **_settings(_NUMBER, DriftMoERegressor, options))


def _over_sparse_rows(name: str, schema: Schema, seed: int, threads: int, options: dict[str, str]) -> BlockClassifier:
    from stream_moe.models.sparse import SparseDriftMoE

    if name != "driftmoe":
        raise ConfigError(f"{name}: takes no sparse rows, which only driftmoe does; leave --model out")
    return SparseDriftMoE(schema, seed=seed, threads=threads, **_settings(name, SparseDriftMoE, options))


def rebuild_model(name: str, schema: Schema, parameters: Mapping[str, str]) -> BlockClassifier | None:
    """Make the model of a checkpoint anew.

    Parameters
    ----------
    name, schema
        As the checkpoint has them.
    parameters
        Of its owner: Python literals by name.

    Returns
    -------
    BlockClassifier or None
        None = the parameters do not tell how: those of an older program, or of a model for each key.

    Examples
    --------
    >>> from stream_moe.types import Schema
    >>> schema = Schema.numeric(1, ["no", "yes"])
    >>> rebuild_model("knn", schema, {"expert": "'knn'", "parameters": "{'k': 5}"}).parameters
    {'k': 5}
    >>> rebuild_model("knn", schema, {}) is None
    True
    """
    given: dict[str, Any] = {}
    for key, text in parameters.items():
        with suppress(ValueError, SyntaxError, RecursionError, MemoryError):  # a class, in files of older programs
            given[key] = ast.literal_eval(text[:MOST_TEXT])
    if name not in _MIXTURES and type(given.get("parameters", "")) in (dict, type(None)):
        given = given["parameters"] or {}
    elif name not in _MIXTURES or "seed" not in given:
        return None
    if "model_per" in parameters:
        return None
    try:
        factory = _mixture_class(name) if name in _MIXTURES else expert_class(current_kind(name))
        known = set(inspect.signature(factory).parameters) - _NOT_SETTINGS
        options = {key: str(value) for key, value in given.items() if key in known}
        return build_model(name, schema, seed=int(given.get("seed", 1)), options=options)
    except (ConfigError, TypeError, ValueError, LookupError):
        return None


def warning(name: str, options: dict[str, str], events: int | None) -> str | None:
    """Return what a user should know before so many events (None = without end) go through a model; None = nothing.

    Examples
    --------
    >>> warning("driftmoe-two-stage", {"first_half": "5000"}, 4000)[:67]
    'driftmoe-two-stage: 4,000 events are all of the first stage, so the'
    """
    if name != _TWO_STAGE or events is None:
        return None
    from stream_moe.models.published.two_stage import DriftMoETwoStage

    model, half = DriftMoETwoStage(None, **_settings(name, DriftMoETwoStage, options)), events // 2
    if model.first_half < events:
        return None
    burn_in = f" --set burn_in={half // 2}" if model.variant == "data" and model.burn_in > half else ""
    said = f"{name}: {events:,} events are all of the first stage, so the router learns nothing; give "
    return f"{said}--set first_half={half}{burn_in}"


def _mixture_class(name: str) -> Callable[..., BlockClassifier]:
    module, _, kind = _MIXTURES[name].rpartition(".")
    found: Callable[..., BlockClassifier] = getattr(import_module(f"stream_moe.models.{module}"), kind)
    return found


def _single_expert(
    name: str, schema: Schema | None, seed: int, options: dict[str, str], class_weight: dict[str, float] | None
) -> BlockClassifier:
    from stream_moe.models.single import SingleExpert
    from stream_moe.types import Schema

    expert = expert_class(name)
    settings = _settings(name, expert, options)
    if "seed" in inspect.signature(expert).parameters:
        settings["seed"] = seed
    if schema is None:  # a wrong value must be told now, not at the first event
        expert(Schema.numeric(1, ["any"]), **settings)
    return SingleExpert(schema, expert=expert, parameters=settings or None, class_weight=class_weight)


def _settings(name: str, factory: Callable[..., Any], options: dict[str, str]) -> dict[str, Any]:
    """Convert text to what the parameters of `factory` are annotated with."""
    names = [p for p in inspect.signature(factory).parameters if p not in _NOT_SETTINGS]
    hints = get_type_hints(factory.__init__) if options else {}
    for key in options:
        if _FORMER_SETTINGS.get(key) in names:
            raise ConfigError(f"{name}: the setting {key!r} is now {_FORMER_SETTINGS[key]!r}; use the new name")
        if key not in names:
            choices = f"its settings are {', '.join(names)}" if names else "it has none"
            raise ConfigError(f"{name}: no setting {key!r}; {choices}")
    return {key: _convert(f"{name}: {key}", text, hints[key]) for key, text in options.items()}


def _convert(what: str, text: str, kind: Any) -> Any:
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise ConfigError(f"{what}: {text!r}; choose one of {', '.join(get_args(kind))}")
        return text
    if kind is bool:
        if text.lower() not in _BOOLS:
            raise ConfigError(f"{what}: {text!r}; choose one of {', '.join(_BOOLS)}")
        return _BOOLS[text.lower()]
    if kind is str:
        return text
    try:
        value = kind(text)
    except ValueError:
        value = math.nan
    if not abs(value) < _LARGEST:
        raise ConfigError(f"{what}: {text!r} is no {'whole ' if kind is int else ''}number below 2^53")
    return value
