"""A batch that unpacks to more than the bound is refused before it is in memory."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable

import lz4.frame
import pytest
import zstandard
from kafka.errors import CorruptRecordError
from kafka.record import default_records

from connectors.kafka import internals, unpacking

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "lz4": lz4.frame.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("kind", PACKERS)
def test_what_fits_comes_back_and_a_bomb_does_not(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    internals.bound_unpacking()
    unpack = getattr(default_records, f"{kind}_decode")
    for text in (b"", b"x" * 100_000, bytes(range(256)) * 40_000):
        assert bytes(unpack(PACKERS[kind](text))) == text
    monkeypatch.setattr(unpacking, "BATCH_BYTES", 10_000_000)
    assert len(unpack(PACKERS[kind](bytes(10_000_000)))) == 10_000_000
    bomb = PACKERS[kind](bytes(200_000_000))
    tracemalloc.start()
    with pytest.raises(CorruptRecordError, match="more than 9 MiB"):
        unpack(bomb)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40_000_000


def test_two_frames_of_zstd_are_one_batch() -> None:
    pack = zstandard.ZstdCompressor().compress
    internals.bound_unpacking()
    assert default_records.zstd_decode(pack(b"a") + pack(b"b")) == b"ab"
