"""What must not be in the code that ships: calls that run what they read, and secrets in argument lists.

Most of it is for ruff to say (`pyproject.toml`: S, and the banned modules and calls); the rest is here.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from stream_moe.cli import app
from stream_moe.cli.flags import refuse_secrets
from stream_moe.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path for package in ("stream_moe", "connectors") for path in (ROOT / package).rglob("*.py"))


def offences(code: str) -> Iterator[str]:
    """Name what a module does that it must not."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call):
            name, arguments = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
            if name in {"compile", "__import__"}:
                yield f"{name}()"
            # np.load reads no pickles unless it is allowed to, which depended on the version once.
            if arguments.get("allow_pickle", "True" if name in {"np.load", "numpy.load"} else "False") != "False":
                yield "allow_pickle"
        if isinstance(node, ast.Assign) and any(ast.unparse(t).endswith("check_hostname") for t in node.targets):
            yield "check_hostname"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert list(offences(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "compile(code, 'x', 'exec')",
        "__import__(name)",
        "context.check_hostname = False",
    ],
)
def test_the_rules_notice(code: str) -> None:
    assert list(offences(code))


def test_ruff_notices_the_rest() -> None:
    codes = [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle as j",
        "from torch import load",
        "import torch\n\ntorch.load(x)",
        "eval('1')",
        "exec(code)",
        "import yaml\n\nyaml.load(x)",
        "import subprocess\n\nsubprocess.run(command, shell=True)",
        "import os\n\nos.system('ls')",
        "import os\n\nos.popen('ls')",
        "import pandas as pd\n\npd.read_pickle(x)",
        "import ssl\n\ncontext.verify_mode = ssl.CERT_NONE",
        "import ssl\n\nssl._create_unverified_context()",
    ]
    for code in codes:
        command = [
            sys.executable,
            "-m",
            "ruff",
            "check",
            "--select=S,TID251",
            "--stdin-filename=stream_moe/x.py",
            "-",
        ]
        found = subprocess.run(command, input=code, text=True, cwd=ROOT, capture_output=True, check=False)
        assert found.returncode == 1, f"{code}\n{found.stdout}{found.stderr}"


def test_the_rules_let_through_what_is_harmless() -> None:
    assert not list(
        offences("import re\nre.compile('x')\nnp.load(p, allow_pickle=False)\nmodel.eval()\nf(shell=False)")
    )


@pytest.mark.parametrize(
    "argument",
    [
        "--sasl-password=canary",
        "--sasl-password",
        "--password=canary",
        "--metrics-secret",
        "--ssl-passphrase=canary",
        "--api-key=canary",
        "--state-dir=s3://me:canary@bucket/states",
        "s3://me:canary@bucket",
    ],
)
def test_a_secret_on_the_command_line_is_refused_and_not_repeated(argument: str) -> None:
    with pytest.raises(ConfigError, match="process list; put secrets into a file or the environment") as caught:
        refuse_secrets(["run", argument])
    assert "canary" not in str(caught.value)


def test_flags_that_say_where_a_secret_lies_are_not_refused() -> None:
    refuse_secrets(["run", "--metrics-auth-file", "users", "--password-file=x", "--state-dir=s3://bucket/a:b@c"])


def test_no_verb_takes_a_secret() -> None:
    """Each option of each verb passes the rule that refuses secrets."""
    verbs = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    options = [option for verb in verbs.values() for each in verb.params for option in each.opts]
    assert {"--state-dir", "--metrics-auth-file", "--set"} <= set(options)
    refuse_secrets(options)
