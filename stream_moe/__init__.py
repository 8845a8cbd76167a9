"""stream_moe: a learned mixture of drift-adaptive experts on a log of events.

The names below are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_moe.engine.replay import replay
    from stream_moe.models.catalogue import build_model
    from stream_moe.models.contract import BlockClassifier
    from stream_moe.models.cost_sensitive import CostSensitiveClassifier
    from stream_moe.models.driftmoe import DriftMoE
    from stream_moe.models.keyed.learner import KeyedLearner
    from stream_moe.models.published.data import DriftMoEData
    from stream_moe.models.published.task import DriftMoETask
    from stream_moe.models.published.two_stage import DriftMoETwoStage
    from stream_moe.models.regression.contract import BlockRegressor
    from stream_moe.models.regression.driftmoe import DriftMoERegressor
    from stream_moe.models.single import SingleExpert
    from stream_moe.models.sparse import SparseDriftMoE
    from stream_moe.models.state import restore_state, state_to_bytes
    from stream_moe.sparse_rows import SparseRows
    from stream_moe.streams import open_stream
    from stream_moe.target import Target
    from stream_moe.types import Block, Feature, Schema

__version__ = "0.1.0"
__all__ = [
    "Block", "BlockClassifier", "BlockRegressor", "CostSensitiveClassifier", "DriftMoE", "DriftMoEData",
    "DriftMoERegressor", "DriftMoETask", "DriftMoETwoStage", "Feature", "KeyedLearner", "Schema", "SingleExpert",
    "SparseDriftMoE", "SparseRows", "Target", "__version__", "build_model",
    "open_stream", "replay", "restore_state", "state_to_bytes",
]  # fmt: skip

_MODULES = {
    "Block": "types",
    "BlockClassifier": "models.contract",
    "BlockRegressor": "models.regression.contract",
    "CostSensitiveClassifier": "models.cost_sensitive",
    "DriftMoE": "models.driftmoe",
    "DriftMoEData": "models.published.data",
    "DriftMoERegressor": "models.regression.driftmoe",
    "DriftMoETask": "models.published.task",
    "DriftMoETwoStage": "models.published.two_stage",
    "Feature": "types",
    "KeyedLearner": "models.keyed.learner",
    "Schema": "types",
    "SingleExpert": "models.single",
    "SparseDriftMoE": "models.sparse",
    "SparseRows": "sparse_rows",
    "Target": "target",
    "build_model": "models.catalogue",
    "open_stream": "streams",
    "replay": "engine.replay",
    "restore_state": "models.state",
    "state_to_bytes": "models.state",
}

# Names and modules of older programs, and what to use now.
_FORMER = {
    "DriftMixture": "DriftMoE",
    "TwoStage": "DriftMoETwoStage",
    "baselines": "models.foreign",
    "classifier": "models.contract",
    "evaluation.prequential": "replay",
    "homes": "experts.executors",
    "keyed": "models.keyed",
    "mixture": "DriftMoE",
    "models.build_model": "build_model",
    "models.model_names": "models.catalogue.model_names",
    "moe": "DriftMoEData",
    "pictures": "plots",
    "single": "models.single",
    "specialization": "models.specialization",
    "state": "restore_state, stream_moe.state_to_bytes",
    "two_stage": "DriftMoETwoStage",
}


class _Former:
    """Asked last, for a module that nobody finds: says what one of an older program is called now."""

    @staticmethod
    def find_spec(fullname: str, path: Any = None, target: Any = None) -> None:
        package, _, name = fullname.partition(".")
        if package == __name__ and name in _FORMER:
            raise ImportError(f"{fullname} is of an older version; use {__name__}.{_FORMER[name]}", name=fullname)


sys.meta_path.append(_Former)


def __getattr__(name: str) -> Any:
    if name in _FORMER:
        raise AttributeError(f"{__name__}.{name} is of an older version; use {__name__}.{_FORMER[name]}")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
