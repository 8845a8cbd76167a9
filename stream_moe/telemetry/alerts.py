"""The alerts of `alerts.toml`: what is watched, from which limit on it is a fault, and what to do about it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from string import Template


@dataclass(frozen=True, slots=True)
class Alert:
    """One fault that somebody has to know of; `alerts.toml` says what its fields are.

    Examples
    --------
    >>> ALERT["CheckpointFailing"].promql
    'increase(stream_moe_checkpoint_failures_total[15m]) > 0'
    """

    name: str
    group: str
    severity: str
    expr: str
    summary: str
    runbook: str
    limit: float = 0.0
    margin: float = 0.0
    window: float = 0.0  # seconds
    wait: str = ""
    why: str = ""

    @property
    def promql(self) -> str:
        """The condition with its numbers."""
        window = f"{self.window / 3600:g}h" if self.window % 3600 == 0 else f"{self.window / 60:g}m"
        return Template(self.expr).substitute(limit=f"{self.limit:g}", margin=f"{self.margin:g}", window=window)


_content = tomllib.loads(resources.files(__package__).joinpath("alerts.toml").read_text(encoding="utf-8"))
RECORDED: dict[str, str] = _content["recorded"]
ALERT = {name: Alert(f"StreamMoe{name}", **fields) for name, fields in _content["alerts"].items()}
ALERTS = tuple(ALERT.values())
