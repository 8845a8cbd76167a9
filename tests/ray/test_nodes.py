"""A cluster of several nodes, each with processes of its own; one of them is lost with all that runs on it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

pytest.importorskip("ray")
MEMORY = 100_000_000  # bytes of a node's object store: Ray wants at least 75 MB

# The driver does a step for each line that it reads, and says what came of it.
DRIVER = """
import os, ray, sys, time
from tests.laws.executors import at, mixed_stream, run

answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # Ray says on stdout that a node died

def wait_for(cpus):
    while ray.cluster_resources().get("CPU", 0) < cpus:
        time.sleep(0.1)

x, y = mixed_stream(600)
here = at("threads", "driftmoe")
run(here, x, y, 10_000)
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
wait_for(2)
there = at("ray", "driftmoe")
run(there, x[:300], y[:300], 64)
print(*[worker.pid for worker in there.pool.workers], file=answers, flush=True)
sys.stdin.readline()
wait_for(3)
print("a third node is there", file=answers, flush=True)
sys.stdin.readline()
run(there, x[300:], y[300:], 64)
pids = [worker.pid for worker in there.pool.workers]
print(there.pool.rebuilt, there.digest == here.digest, *pids, file=answers, flush=True)
"""


class Nodes:
    """The nodes of a cluster on this machine, made by `ray start` as on any host."""

    def __init__(self) -> None:
        with socket.socket() as free:  # not the brokers' range: Ray keeps 10,002 to 19,999 for its workers
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"127.0.0.1:{port}"
        self._folder = tempfile.mkdtemp(prefix="ray-")  # a short name, for sockets lie in it
        self.environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        self.environment |= {"RAY_ADDRESS": self.address, "RAY_TMPDIR": self._folder}
        self._started: list[subprocess.Popen[str]] = []
        self._start("--head", f"--port={port}", "--include-dashboard=false", "--num-cpus=0")

    def add(self) -> None:
        """Add a node with one CPU."""
        self._start(f"--address={self.address}", "--num-cpus=1")

    def _start(self, *options: str) -> None:
        here = ("--block", "--node-ip-address=127.0.0.1", f"--object-store-memory={MEMORY}")
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", *here, *options]
        environment = {name: value for name, value in self.environment.items() if name != "RAY_ADDRESS"}
        pipe, both = subprocess.PIPE, subprocess.STDOUT
        node = subprocess.Popen(command, env=environment, stdout=pipe, stderr=both, text=True, start_new_session=True)
        self._started.append(node)
        assert node.stdout is not None
        assert any("Ray runtime started" in line for line in node.stdout), "a node did not start"

    @staticmethod
    def lose(session: int) -> None:
        """Kill all processes of a node at once, as if its plug were pulled."""
        listed = subprocess.run(["ps", "-eo", "pid,sid"], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines()[1:]:
            pid, sid = map(int, line.split())
            if sid == session:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        for node in reversed(self._started):
            self.lose(node.pid)
            node.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    started = Nodes()
    yield started
    started.close()


def test_a_node_that_is_lost_changes_nothing(nodes: Nodes) -> None:
    nodes.add()
    nodes.add()
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER],
        env=nodes.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        first, second = (int(pid) for pid in driver.stdout.readline().split())
        assert os.getsid(first) != os.getsid(second), "both shards are on one node"
        nodes.add()
        print(file=driver.stdin, flush=True)
        assert driver.stdout.readline() == "a third node is there\n"
        nodes.lose(os.getsid(second))
        print(file=driver.stdin, flush=True)
        rebuilt, same, stayed, moved = driver.stdout.readline().split()
        assert (rebuilt, same, int(stayed)) == ("1", "True", first)
        assert os.getsid(int(moved)) != os.getsid(first)
    assert driver.returncode == 0
