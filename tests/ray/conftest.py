"""A Ray cluster of this machine alone, on its loopback address, for all tests here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

# In a process of its own, and those who join it too: Ray takes the handler of SIGSEGV, which the JVM of other tests
# needs for its own ends, and a whole process dies of that.
CLUSTER = """
import ray, sys
ray.init(num_cpus=2, object_store_memory=100_000_000, include_dashboard=False, log_to_driver=False,
         logging_level="ERROR", _node_ip_address="127.0.0.1")
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
ray.shutdown()
"""


@pytest.fixture(scope="session")
def cluster() -> Iterator[dict[str, str]]:
    """Environment of a process that joins a cluster of two CPUs."""
    pytest.importorskip("ray")
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "Ray did not start"
        yield environment | {"RAY_ADDRESS": address}
        process.stdin.close()
