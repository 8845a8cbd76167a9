"""What must not be in the code that ships: calls that run what they read, and secrets in argument lists."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main

from stream_moe.cli import app
from stream_moe.cli.flags import refuse_secrets
from stream_moe.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path for package in ("stream_moe", "connectors") for path in (ROOT / package).rglob("*.py"))
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve", "yaml"}
BUILTINS = {"eval", "exec", "compile", "__import__"}
CALLS = {"torch.load", "torch.hub.load", "numpy.load", "np.load", "os.system", "os.popen", "pandas.read_pickle"}


def offences(code: str) -> Iterator[str]:
    """Name what a module does that it must not."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = node.module or "" if isinstance(node, ast.ImportFrom) else ""
            names = [module, *(alias.name for alias in node.names)] if module else [a.name for a in node.names]
            yield from (f"import {name}" for name in names if name.partition(".")[0] in MODULES)
            yield from (f"import {module}.{a.name}" for a in node.names if f"{module}.{a.name}" in CALLS)
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            # np.load reads no pickles unless it is allowed to.
            pickles = [k for k in node.keywords if k.arg == "allow_pickle" and ast.unparse(k.value) == "False"]
            if name in BUILTINS or (name in CALLS and not pickles):
                yield f"{name}()"
            for keyword in node.keywords:
                if keyword.arg == "shell" and ast.unparse(keyword.value) != "False":
                    yield "shell=True"
                if keyword.arg == "allow_pickle" and ast.unparse(keyword.value) != "False":
                    yield "allow_pickle"
        if isinstance(node, ast.Attribute) and node.attr in {"CERT_NONE", "_create_unverified_context"}:
            yield node.attr
        if isinstance(node, ast.Assign) and any(ast.unparse(t).endswith("check_hostname") for t in node.targets):
            yield "check_hostname"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_that_is_read_is_run(path: Path) -> None:
    assert list(offences(path.read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib.numpy_pickle as j",
        "from torch import load",
        "def f(x):\n    return torch.load(x)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "eval('1')",
        "exec(code)",
        "import yaml\nyaml.load(x)",
        "subprocess.run(command, shell=True)",
        "os.system('ls')",
        "context.verify_mode = ssl.CERT_NONE",
        "context.check_hostname = False",
    ],
)
def test_the_rules_notice(code: str) -> None:
    assert list(offences(code))


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
