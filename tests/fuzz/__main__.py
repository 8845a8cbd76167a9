"""Run many inputs: python -m tests.fuzz --target codec --inputs 1000000 [--guided].

`--target state` damages every array and number of every part of a state, and prints a table (`tests.fuzz.states`).

Exits 1 and keeps the input (./fuzz-finding.bin) when one crashes or takes too long, or memory grows.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from tests.fuzz import Fuzz, rss

parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
parser.add_argument("--target", choices=["codec", "checkpoint", "state"], required=True)
parser.add_argument("--inputs", type=int, default=1_000_000)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--guided", action="store_true", help="guided by coverage (needs atheris; codec only)")
parser.add_argument("--learners", default="", help="of state: names, separated by commas; all of them")
parser.add_argument("--events", type=int, default=2000, help="of state: learnt after each case")
parser.add_argument("--share", type=float, default=1.0, help="of state: how many of the cases are tried")
parser.add_argument("--unchecked", action="store_true", help="of state: with the code that the program runs")
options = parser.parse_args()

if options.target == "state":
    if not options.unchecked and os.environ.get("NUMBA_BOUNDSCHECK") != "1":
        # Code that checks each index, kept apart from the program's; numba reads both when it is loaded.
        kept = Path(os.environ.get("NUMBA_CACHE_DIR") or Path.home() / ".cache" / "stream_moe") / "checked"
        checked = os.environ | {"NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(kept)}
        os.execve(sys.executable, [sys.executable, "-m", "tests.fuzz", *sys.argv[1:]], checked)
    from tests.fuzz import states

    names = [name for name in options.learners.split(",") if name] or states.NAMES
    sys.exit(states.fuzz(names, events=options.events, seed=options.seed, share=options.share))

if not options.guided:
    fuzz = Fuzz(options.target, options.seed)
    fuzz.run(options.inputs)
    sys.exit(fuzz.finish())

try:
    import atheris
except ImportError:
    sys.exit("--guided needs atheris: pip install 'stream-moe[fuzz]' (no wheel for every Python)")
if options.target != "codec":
    sys.exit("--guided is for the codec: bytes behind a sha256 are nothing that coverage could guide to")
with atheris.instrument_imports(include=["stream_moe.engine.codec", "json.decoder"]):
    import json.decoder  # noqa: F401

    import stream_moe.engine.codec  # noqa: F401
from tests.fuzz.inputs import FAULTS, TOKENS  # noqa: E402

fuzz = Fuzz("codec", options.seed)
fuzz.run(2000)  # everything is compiled and allocated once


def one(content: bytes) -> None:
    if fuzz.inputs < options.inputs:
        fuzz.take(content)
    else:
        code = fuzz.finish()
        sys.stdout.flush()
        os._exit(code)  # libFuzzer would end the process without a word of ours


with tempfile.TemporaryDirectory() as corpus, tempfile.NamedTemporaryFile("w", suffix=".dict") as words:
    for number, fault in enumerate(FAULTS):
        if fault[1] and len(fault[1]) < 5000:
            (Path(corpus) / str(number)).write_bytes(fault[1])
    words.writelines('"' + "".join(f"\\x{byte:02x}" for byte in token) + '"\n' for token in TOKENS if len(token) < 64)
    words.flush()
    flags = [f"-dict={words.name}", f"-seed={options.seed}", "-max_len=512", "-timeout=10", "-verbosity=0"]
    atheris.Setup([sys.argv[0], corpus, *flags], one)
    print(f"guided by coverage; RSS {rss() >> 20} MiB", flush=True)
    atheris.Fuzz()
