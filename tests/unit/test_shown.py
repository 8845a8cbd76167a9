"""What others wrote: secrets in addresses are shown nowhere, a terminal obeys nobody, a sheet computes nothing."""

from __future__ import annotations

import csv
import logging
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest

from connectors.kafka import KafkaSettings
from connectors.objects import found_checkpoints, open_store
from stream_moe.cli.flags import refuse_secrets
from stream_moe.cli.live import _row
from stream_moe.errors import ConfigError, DataError
from stream_moe.experiments.plan import Run
from stream_moe.experiments.store import RunStore
from stream_moe.shown import holds_secret, printable, without_secrets
from stream_moe.telemetry.logs import settings_line, setup_logging

SECRET = "canary"
ADDRESSES = [
    "s3://key:with/canary@bucket/states",
    "s3://key:canary@bucket",
    "s3://key:p@canary@bucket",
    "s3://:canary@bucket",
    "https://store/states?sv=1&sig=canary",
    "https://store/states?X-Amz-Signature=canary&x=1",
    "abfs://c@store/x?sas=canary",
    "https://store/?access_key=canary#top",
    "gs://bucket/x?token=canary",
    "user:canary@host:9092",
    "host:9092,user:canary@host:9092",
]
HARMLESS = [
    "s3://bucket/a:b@c", "http://host:8080/a@b", "kafka-1:9093,kafka-2:9093", "https://x/y?page=2&sort=key",
    "driftmoe", "s3://me@bucket", "a=b@c", "[::1]:9092", "file:///tmp/x",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_a_secret_in_an_address_is_found_and_masked(address: str, caplog: pytest.LogCaptureFixture) -> None:
    assert holds_secret(address)
    assert SECRET not in without_secrets(f"cannot reach {address!r}: refused ({address})")
    assert SECRET not in str(ConfigError(f"{address}: no"))
    assert SECRET not in repr(DataError(f"{address}: no"))
    assert SECRET not in settings_line({"state_dir": address, "more": [address]})
    stream = StringIO()
    for json in (False, True):
        setup_logging("INFO", json=json, stream=stream)
        logging.getLogger("stream_moe").warning("at %s", address, extra={"fields": {"where": address}})
    assert stream.getvalue().count("***") >= 4
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("form", ["--state-dir={}", "{}", "--bootstrap={}", "--set=x={}"])
def test_it_is_refused_on_the_command_line(address: str, form: str) -> None:
    with pytest.raises(ConfigError, match="process list") as caught:
        refuse_secrets(["run", form.format(address)])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", HARMLESS)
def test_what_only_looks_like_one_is_left_alone(address: str) -> None:
    assert without_secrets(address) == address
    refuse_secrets([f"--state-dir={address}"])


@pytest.mark.parametrize("address", [each for each in ADDRESSES if "://" in each])
def test_stores_refuse_it_wherever_it_comes_from(address: str) -> None:
    for use in (lambda: open_store(address, "a-b-0"), lambda: found_checkpoints(address)):
        with pytest.raises(ConfigError, match="a password in a URL") as caught:
            use()
        assert SECRET not in str(caught.value)


@pytest.mark.parametrize("address", ["user:canary@host:9092", "user@host:9092", "host:9092,u:canary@h:1"])
def test_so_do_brokers(address: str) -> None:
    with pytest.raises(ConfigError, match="sasl_username") as caught:
        KafkaSettings(address, "events")
    assert SECRET not in str(caught.value)


HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31mred\rforged\u202egnp"


def test_nothing_moves_the_cursor() -> None:
    shown = printable(HOSTILE)
    assert all(each.isprintable() for each in shown)
    assert "owned" in shown
    assert all(each.isprintable() for each in str(DataError(f"column {HOSTILE}: no")))
    assert "\x1b" not in _row((HOSTILE, "1", "2", "3", "4"), 80, "").plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["schema"],
        ["replay", "--model", "no-change"],
        ["audit", "--model", "no-change"],
        ["replay", "--label", "none"],
    ],
    ids=" ".join,
)
def test_a_files_header_cannot_reach_the_terminal(arguments: list[str], tmp_path: Path) -> None:
    path = tmp_path / "hostile.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([f"size{HOSTILE}", f"colour{HOSTILE}", f"class{HOSTILE}"])
        for n in range(200):
            writer.writerow([n, f"red{HOSTILE}" if n % 3 else "blue", f"yes{HOSTILE}" if n % 2 else "no"])
    verb, *options = arguments
    done = subprocess.run(
        [sys.executable, "-m", "stream_moe", verb, path, *options], capture_output=True, check=False, timeout=300,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    shown = (done.stdout + done.stderr).decode()
    assert shown
    assert not [each for each in shown if not each.isprintable() and each != "\n"]


def test_a_cell_of_the_results_is_no_formula(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "out")
    streams = ("=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\tx", "sea_a")
    runs = [Run(stream, "no-change", (), 1, 10, 0, None) for stream in streams]
    for run in runs:
        store.fail(run, "=HYPERLINK(1)")
    store.write_tables(runs)
    with (tmp_path / "out" / "results.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=cmd|' /C calc'!A0" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_a_daemon_leaves_no_core_dump() -> None:
    code = (
        "import resource, sys\n"
        "from stream_moe.cli import main\n"
        "sys.argv = ['stream-moe', 'run', '--state-dir', 's', '--bootstrap', 'me@nowhere:1']\n"
        "try:\n    main()\nexcept SystemExit as ended:\n"
        "    print(ended.code, resource.getrlimit(resource.RLIMIT_CORE))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "2 (0, 0)\n", done.stderr
