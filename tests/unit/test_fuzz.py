"""The known input faults one by one, and a short run of the fuzzer; `python -m tests.fuzz` runs a million."""

from __future__ import annotations

import faulthandler
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz import Fuzz
from tests.fuzz.inputs import FAULTS
from tests.fuzz.targets import REASONS, Codec


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)  # where a finding is kept
    yield
    faulthandler.cancel_dump_traceback_later()  # an armed one would end the whole test run
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize(("value", "reason"), [(v, r) for _, v, r in FAULTS], ids=[name for name, _, _ in FAULTS])
def test_each_known_fault_is_an_event_or_its_dead_letter(value: bytes | None, reason: str | None) -> None:
    assert Codec()(value) == (reason or "event")


def test_a_short_run_over_records() -> None:
    fuzz = Fuzz("codec", 1)
    fuzz.run(5000)
    assert fuzz.finish() == 0
    assert set(fuzz.seen) >= {"event", *REASONS} - {"no-id"}  # every way out is taken


def test_a_short_run_over_checkpoints() -> None:
    fuzz = Fuzz("checkpoint", 1)
    fuzz.run(2000)
    assert fuzz.finish() == 0
    assert set(fuzz.seen) == {"refused", "does not fit", "learns on"}


def test_a_finding_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz = Fuzz("codec", 1)
    monkeypatch.setattr(fuzz, "_check", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        fuzz.take(b"the one")
    assert Path("fuzz-finding.bin").read_bytes() == b"the one"
