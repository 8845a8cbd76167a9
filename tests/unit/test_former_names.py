"""A name of an older version is answered with the one of today, in a line."""

from __future__ import annotations

import pytest

import stream_moe
from stream_moe.errors import ConfigError
from stream_moe.models.catalogue import build_model


@pytest.mark.parametrize(
    ("line", "now"),
    [
        ("from stream_moe.mixture import DriftMixture", "use stream_moe.DriftMoE$"),
        ("from stream_moe import DriftMixture", "use stream_moe.DriftMoE$"),
        ("import stream_moe.two_stage", "use stream_moe.DriftMoETwoStage$"),
        ("from stream_moe.moe import DriftMoE", "use stream_moe.DriftMoEData"),
        ("from stream_moe.models import build_model", "use stream_moe.build_model$"),
        ("from stream_moe.homes.sharded import ShardedPool", "use stream_moe.experts.executors$"),
    ],
)
def test_an_import_says_what_to_import_now(line: str, now: str) -> None:
    with pytest.raises(ImportError, match=now) as caught:
        exec(line)  # noqa: S102 - one of the table above
    assert "\n" not in str(caught.value)


def test_what_they_name_is_there() -> None:
    for now in stream_moe._FORMER.values():
        name = now.partition(",")[0]
        if name not in stream_moe.__all__:
            module, _, attribute = name.rpartition(".")
            __import__(f"stream_moe.{module}" if module.startswith("models.catalogue") else f"stream_moe.{name}")
            assert attribute


def test_an_attribute_says_so_too_and_other_names_are_as_ever() -> None:
    with pytest.raises(AttributeError, match=r"use stream_moe\.DriftMoE$"):
        stream_moe.DriftMixture  # noqa: B018
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'stream_moe\.nothing'"):
        __import__("stream_moe.nothing")


def test_a_setting_that_was_renamed() -> None:
    with pytest.raises(ConfigError, match="driftmoe: the setting 'home' is now 'executor'; use the new name"):
        build_model("driftmoe", None, options={"home": "processes"})
