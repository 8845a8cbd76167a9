"""Other libraries' classifiers by name: `river:ARFClassifier(n_models=10)`, `capymoa:ARF100`.

A name is a library, a class, and keyword arguments that are Python literals: it is parsed, never evaluated. The
model gets exactly the events ours get, test then train.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING, Any

import numpy as np

from stream_moe.errors import ConfigError, StreamMoeError, one_line
from stream_moe.models.single import SingleExpert
from stream_moe.types import Schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stream_moe.experts.base import Expert
    from stream_moe.models.contract import BlockClassifier

# The literature's names; a number at the end is the size of the ensemble. CapyMOA's own class names do too.
CAPYMOA_NAMES = {
    "ARF": "AdaptiveRandomForestClassifier",
    "SRP": "StreamingRandomPatches",
    "LevBag": "LeveragingBagging",
    "OzaBag": "OnlineBagging",
    "OzaBagAdwin": "OnlineAdwinBagging",
    "OzaBoost": "OzaBoost",
    "SmoothBoost": "OnlineSmoothBoost",
    "SGBT": "StreamingGradientBoostedTrees",
    "DWM": "DynamicWeightedMajority",
    "HAT": "HoeffdingAdaptiveTree",
    "kNN": "KNN",
}
_SIZES = ("ensemble_size", "boosting_iterations")  # what CapyMOA's classes call the size of the ensemble


def build_baseline(name: str, schema: Schema | None, *, seed: int = 1) -> BlockClassifier:
    """Make a learner of another library.

    Parameters
    ----------
    name
        `river:CLASS(KEYWORD=LITERAL, ...)` with a classifier of river that needs no other model, or
        `capymoa:CLASS(...)` with a MOA learner by CapyMOA's name or one of `CAPYMOA_NAMES`, which may end in the
        size of the ensemble. The brackets may be left out.
    schema
        Features and classes; None = learn them from the events, which MOA cannot.
    seed
        For a class that takes one, unless the brackets name another.

    Raises
    ------
    ConfigError
        If the class or a keyword does not exist, a value is no literal or does not fit, or a library is missing.

    Examples
    --------
    >>> from stream_moe.types import Schema
    >>> model = build_baseline("river:KNNClassifier(n_neighbors=3)", Schema.numeric(2, ["no", "yes"]))
    >>> model.report().experts[0].kind
    'river-KNNClassifier'
    >>> build_baseline("river:GaussianNB(k=3)", None)
    Traceback (most recent call last):
    stream_moe.errors.ConfigError: river:GaussianNB(k=3): no parameter 'k'; it takes none
    """
    library, _, call = name.partition(":")
    class_name, keywords = parse_call(name, call)
    if library == "river":
        return _river(name, class_name, keywords, schema, seed)
    if library == "capymoa":
        return _capymoa(name, class_name, keywords, schema, seed)
    raise ConfigError(f"model: {name!r}: no library {library!r}; write river:CLASS(...) or capymoa:CLASS(...)")


def parse_call(name: str, call: str) -> tuple[str, dict[str, Any]]:
    """Take `CLASS` or `CLASS(KEYWORD=LITERAL, ...)` apart; `name` is what errors call it.

    Examples
    --------
    >>> parse_call("", "ARFClassifier(n_models=10, metric=None)")
    ('ARFClassifier', {'n_models': 10, 'metric': None})
    """
    try:
        node = ast.parse(call.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        node = None
    if isinstance(node, ast.Name):
        return node.id, {}
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ConfigError(f"model: {name!r}: write it as LIBRARY:CLASS or LIBRARY:CLASS(KEYWORD=VALUE, ...)")
    if node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ConfigError(f"model: {name!r}: every argument needs its keyword: {node.func.id}(KEYWORD=VALUE, ...)")
    found = {}
    for keyword in node.keywords:
        try:
            found[str(keyword.arg)] = ast.literal_eval(keyword.value)
        except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
            raise ConfigError(
                f"model: {name!r}: {keyword.arg}={ast.unparse(keyword.value)} is no literal; give a number, a text "
                "in quotes, True, False, None, or a list, tuple or dict of such"
            ) from None
    return node.func.id, found


def _river(name: str, class_name: str, keywords: dict[str, Any], schema: Schema | None, seed: int) -> BlockClassifier:
    from stream_moe.experts.foreign.river import RiverExpert

    offered = river_classifiers()
    if class_name not in offered:
        raise ConfigError(f"{name}: river has no such classifier that stands alone; choose one of {_list(offered)}")
    parameters = inspect.signature(offered[class_name]).parameters
    _check_keywords(name, keywords, parameters)
    if "seed" in parameters:
        keywords = {"seed": seed} | keywords
    # River checks few of its parameters: a wrong one shows at the first event.
    try:
        model = offered[class_name](**keywords)
        _probe(RiverExpert(schema or Schema.numeric(1, ["any"]), model), schema.n_features if schema else 1)
    except StreamMoeError as error:
        raise ConfigError(str(error)) from error
    except Exception as error:
        raise ConfigError(f"{name}: {type(error).__name__}: {one_line(error)}") from error
    return SingleExpert(schema, expert=RiverExpert, parameters={"model": model})


def river_classifiers() -> dict[str, type[Any]]:
    """Return river's public classifiers that can be made from literals alone, by name."""
    import river
    from river import base

    found = {}
    for module in pkgutil.iter_modules(river.__path__):
        if not module.ispkg or module.name in {"checks", "compat", "test"}:
            continue
        package = importlib.import_module(f"river.{module.name}")
        for name in getattr(package, "__all__", ()):
            kind = getattr(package, name, None)
            if not (isinstance(kind, type) and issubclass(kind, base.Classifier)) or inspect.isabstract(kind):
                continue
            parameters = inspect.signature(kind).parameters.values()
            if all(p.default is not p.empty or p.kind in {p.VAR_KEYWORD, p.VAR_POSITIONAL} for p in parameters):
                found[name] = kind
    return found


def _capymoa(
    name: str, class_name: str, keywords: dict[str, Any], schema: Schema | None, seed: int
) -> BlockClassifier:
    from stream_moe.experts.foreign.moa import MoaExpert, constructor_parameters, moa_classifiers

    offered = moa_classifiers(name)
    short = {key.casefold(): full for key, full in CAPYMOA_NAMES.items() if full in offered}
    names = short | {key.casefold(): key for key in offered}
    stem = class_name.rstrip("0123456789")
    size = class_name[len(stem) :]
    full = names.get(class_name.casefold()) or names.get(stem.casefold())
    if full is None:
        raise ConfigError(
            f"{name}: CapyMOA has no such MOA learner; choose one of {_list([*CAPYMOA_NAMES, *offered])}"
        )
    parameters = constructor_parameters(offered[full])
    if size and class_name.casefold() not in names:
        sized = next((key for key in _SIZES if key in parameters), None)
        if sized is None or sized in keywords:
            why = "takes no size" if sized is None else f"has its size twice, as {size} and as {sized}"
            raise ConfigError(f"{name}: {stem} {why}; leave the {size} out")
        keywords = {sized: int(size)} | keywords
    _check_keywords(name, keywords, parameters)
    settings: dict[str, Any] = {"classifier": full, "parameters": keywords, "seed": seed, "kind": name}
    MoaExpert(schema or Schema.numeric(1, ["any"]), **settings)  # a wrong value must be told now
    return SingleExpert(schema, expert=MoaExpert, parameters=settings)


def _check_keywords(name: str, keywords: dict[str, Any], parameters: Iterable[str]) -> None:
    names = [p for p in parameters if p not in {"args", "kwargs"}]
    for keyword in keywords:
        if keyword not in names:
            raise ConfigError(f"{name}: no parameter {keyword!r}; it takes {', '.join(names) or 'none'}")


def _probe(expert: Expert, n_features: int) -> None:
    """Let an expert that is thrown away predict and learn an event of zeros and first categories, twice."""
    x = np.zeros((2, n_features), np.float32)
    expert.step(x, np.zeros(2, np.int32), np.ones(2), np.empty((2, expert.n_classes)))


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(set(names), key=str.casefold))
