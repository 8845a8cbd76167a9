"""Any MOA classifier as an expert, through CapyMOA: whole blocks go to Java, and every prediction comes back."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from stream_moe.errors import CheckpointError, ConfigError, DataError, one_line
from stream_moe.experts.base import Expert
from stream_moe.experts.foreign.moa_loop import compose_loop
from stream_moe.snapshot import Snapshot
from stream_moe.types import Float32, Float64, Int32, Schema

INSTALL = "pip install 'stream-moe[baselines]'"


class MoaExpert(Expert):
    """Adapter: test then train runs in Java over a block, and gives the votes for each event.

    An instance is tested without its class and given it afterwards, so no learner can look. Nominal features are
    declared as nominal, missing values are MOA's missing values, and features go over as float64.

    Parameters
    ----------
    schema
        Features and classes; MOA fixes them at the start, so `grow` raises ConfigError.
    classifier
        Name of a class in `capymoa.classifier` that wraps a MOA learner.
    parameters
        Keyword arguments of that class.
    seed
        Its `random_seed`, if it takes one.
    kind
        How it calls itself in reports and errors.

    Notes
    -----
    Votes are scaled to sum to 1 (an infinite one takes all); while there are none, all classes are equal. MOA's state
    cannot be stored without Java's serialization, so `snapshot` gives a fingerprint: a running hash over settings,
    events learnt and the predictions of each before. That compares two runs; `restore` raises CheckpointError unless
    both are just the same. Its memory is of the Java heap and not counted.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        classifier: str,
        parameters: Mapping[str, Any] | None = None,
        seed: int = 1,
        kind: str = "",
    ) -> None:
        self.kind, self.n_classes = kind or f"moa-{classifier}", schema.n_classes
        parameters = dict(parameters or {})
        found = moa_classifiers(self.kind).get(classifier)
        if found is None:
            raise ConfigError(f"{self.kind}: capymoa.classifier has no MOA learner {classifier!r}")
        header = _moa_schema(schema)
        if "random_seed" in constructor_parameters(found):
            parameters.setdefault("random_seed", seed)
        try:
            learner = found(schema=header, **parameters).moa_learner
        except Exception as error:  # of Python or of Java: whatever the class says to a value that does not fit
            raise ConfigError(f"{self.kind}: {_reported(error)}") from error
        self._loop = compose_loop(learner, header.get_moa_header(), self.n_classes)
        self._hash = hashlib.sha256(f"{classifier}{sorted(parameters.items())}".encode())

    def step(self, x: Float32, y: Int32, weight: Float64, proba: Float64) -> None:
        """Test then train, row by row; see `stream_moe.experts.base.Expert.step`."""
        import jpype

        learnt = (y >= 0) & (weight > 0)
        rows = np.column_stack([x.astype(float), np.full(len(x), np.nan)])  # NaN: the class, not given yet
        votes = jpype.JArray(jpype.JDouble, 2)(len(x))
        columns = (jpype.JArray.of(a) for a in (rows, y.astype(float), np.where(learnt, weight, 0.0)))
        try:
            self._loop.invokeWithArguments([*columns, votes])
        except jpype.JException as error:
            raise DataError(f"{self.kind}: failed inside MOA: {_reported(error)}") from error
        proba[:] = shares(np.array(votes).reshape(proba.shape))
        self._hash.update(np.column_stack([rows[:, :-1], y, weight, proba])[learnt].tobytes())

    def grow(self, schema: Schema) -> None:
        raise ConfigError(
            f"{self.kind}: MOA takes no new features, categories or classes once it has started; give the whole "
            "schema at the start"
        )

    def snapshot(self) -> Snapshot:
        return {}, {"fingerprint": self._hash.hexdigest()}

    def restore(self, snapshot: Snapshot) -> None:
        if snapshot[1].get("fingerprint") != self._hash.hexdigest():
            raise CheckpointError(
                f"{self.kind}: a MOA learner cannot be stored without Java's serialization; replay its events "
                "instead, or use an expert of stream_moe"
            )


def shares(votes: Float64) -> Float64:
    """Scale votes [n, C] to sum to 1 in each row; infinite ones, which naive Bayes does give, share all of it.

    Examples
    --------
    >>> shares(np.array([[1.0, 3.0], [np.inf, 9.0], [0.0, 0.0], [np.nan, 2.0], [1e308, 1e308]])).tolist()
    [[0.25, 0.75], [1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.5, 0.5]]
    """
    infinite = np.isposinf(votes)
    votes = np.where(infinite.any(1, keepdims=True), infinite, np.nan_to_num(votes, nan=0.0, neginf=0.0).clip(0.0))
    top = votes.max(1, keepdims=True)
    votes = np.divide(votes, top, out=np.ones_like(votes), where=top > 0)
    return votes / votes.sum(1, keepdims=True)


def moa_classifiers(wanted: str) -> dict[str, type[Any]]:
    """Return CapyMOA's classes that are nothing but a MOA learner, by name; ConfigError where it cannot be loaded."""
    try:
        import capymoa.classifier as offered
        from capymoa.base import MOAClassifier
    except ImportError as error:
        raise ConfigError(f"{wanted}: needs CapyMOA, which is not here ({error}); {INSTALL}") from None
    except (RuntimeError, OSError) as error:  # CapyMOA found no Java, or jpype no virtual machine
        raise ConfigError(
            f"{wanted}: needs Java 17 or newer, which cannot be started ({_reported(error)}); install one, and let "
            "JAVA_HOME or PATH name it"
        ) from None
    kinds: dict[str, Any] = {name: getattr(offered, name, None) for name in offered.__all__}
    return {
        name: kind
        for name, kind in kinds.items()
        if inspect.isclass(kind) and issubclass(kind, MOAClassifier) and _steps(kind) == _steps(MOAClassifier)
    }


def _steps(classifier: Any) -> tuple[Any, Any]:
    return classifier.train, classifier.predict_proba


def constructor_parameters(classifier: type[Any]) -> list[str]:
    """Names of a CapyMOA class's keyword arguments, without the schema."""
    return [name for name in inspect.signature(classifier).parameters if name != "schema"]


def _moa_schema(schema: Schema) -> Any:
    from capymoa.stream import Schema as MoaSchema

    names = [f"a{j}" for j in range(schema.n_features)]  # names mean nothing to a learner: those of ours may clash
    nominal = {f"a{j}": _numbered(n) for j, n in enumerate(schema.n_categories.tolist()) if n}
    return MoaSchema.from_custom([*names, "class"], "class", nominal | {"class": _numbered(schema.n_classes)})


def _numbered(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def _reported(error: BaseException) -> str:
    return f"{type(error).__name__}: {one_line(error)[:200]}"
