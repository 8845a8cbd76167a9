"""stream_moe: a learned mixture of drift-adaptive experts on a log of events.

The names below are loaded on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_moe.evaluation.prequential import replay
    from stream_moe.models import build_model
    from stream_moe.moe import DriftMoE
    from stream_moe.state import restore_state, state_to_bytes
    from stream_moe.streams import open_stream
    from stream_moe.types import Block, Feature, Schema

__version__ = "0.1.0"
__all__ = [
    "Block", "DriftMoE", "Feature", "Schema", "__version__", "build_model", "open_stream", "replay", "restore_state",
    "state_to_bytes",
]  # fmt: skip

_HOME = {
    "Block": "types",
    "DriftMoE": "moe",
    "Feature": "types",
    "Schema": "types",
    "build_model": "models",
    "open_stream": "streams",
    "replay": "evaluation.prequential",
    "restore_state": "state",
    "state_to_bytes": "state",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
