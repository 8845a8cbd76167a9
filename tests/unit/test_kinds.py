"""The one list of the kinds of experts."""

from __future__ import annotations

import subprocess
import sys

import pytest

from stream_moe.experts.base import Expert
from stream_moe.experts.kinds import FORMER, KINDS, expert_class


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_is_the_name_that_its_class_gives_itself(kind: str) -> None:
    found = expert_class(kind)
    assert isinstance(found, type)
    assert issubclass(found, Expert)
    assert found.kind == kind


def test_a_former_name_is_no_name_of_today() -> None:
    assert not FORMER.keys() & KINDS.keys()
    assert set(FORMER.values()) <= KINDS.keys()


def test_a_model_by_a_former_name_is_built_with_one_line_on_stderr() -> None:
    code = (
        "from stream_moe import Schema, build_model\n"
        "for _ in range(2): print(build_model('value-rates', Schema.numeric(2, ['a', 'b'])).report().experts[0].kind)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["target-encoding"] * 2
    assert done.stderr.splitlines() == ["value-rates is now called target-encoding; use the new name"]
