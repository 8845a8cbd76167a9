"""stream_moe: a learned mixture of drift-adaptive experts on a log of events.

The names below are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_moe.engine.replay import replay
    from stream_moe.models.catalogue import build_model
    from stream_moe.models.driftmoe import DriftMoE
    from stream_moe.models.published.moe import DriftMoEData
    from stream_moe.models.published.two_stage import DriftMoETwoStage
    from stream_moe.models.state import restore_state, state_to_bytes
    from stream_moe.streams import open_stream
    from stream_moe.types import Block, Feature, Schema

__version__ = "0.1.0"
__all__ = [
    "Block", "DriftMoE", "DriftMoEData", "DriftMoETwoStage", "Feature", "Schema", "__version__", "build_model",
    "open_stream", "replay", "restore_state", "state_to_bytes",
]  # fmt: skip

_MODULES = {
    "Block": "types",
    "DriftMoE": "models.driftmoe",
    "DriftMoEData": "models.published.moe",
    "DriftMoETwoStage": "models.published.two_stage",
    "Feature": "types",
    "Schema": "types",
    "build_model": "models.catalogue",
    "open_stream": "streams",
    "replay": "engine.replay",
    "restore_state": "models.state",
    "state_to_bytes": "models.state",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
