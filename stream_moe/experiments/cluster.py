"""The executor on a Ray cluster: a run is a task of one CPU on any node, which starts the same process as here."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from stream_moe.errors import one_line
from stream_moe.experiments.plan import Run
from stream_moe.experiments.runner import Outcome, make_in_child
from stream_moe.experts.executors.cluster import connect, cores

SENT = ("STREAM_MOE_DATA",)  # of our environment, where it is set: a node has that of whoever started Ray there
RETRIES = 2  # of a run whose node or task is lost


class Cluster:
    """Makes runs on the Ray cluster of this process; ConfigError if Ray is not installed, or there is no cluster.

    Every node needs this version of stream_moe, and the files that streams name under the same paths.
    """

    def __init__(self) -> None:
        self._ray = connect()
        self.cores = cores()
        self._task = self._ray.remote(num_cpus=1, max_retries=RETRIES)(make_on_node)
        self._lock, self._at_work, self._stopped = threading.Lock(), set[Any](), False

    def make(self, run: Run) -> Outcome:
        """Make a run; one that is lost with its node is made again on another, and then fails."""
        environment = {name: os.environ[name] for name in SENT if name in os.environ}
        with self._lock:
            if self._stopped:
                return Outcome(run, reason="stopped")
            task = self._task.remote(run, environment, str(Path.cwd()))
            self._at_work.add(task)
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(run, reason=f"its node cannot make it: {str(error).strip().splitlines()[-1]}")
        except self._ray.exceptions.RayError as error:
            return Outcome(run, reason=f"lost with its node: {one_line(error)[:160]}")
        finally:
            with self._lock:
                self._at_work.discard(task)

    def stop(self) -> None:
        """End the tasks that are still at work, and with them their processes."""
        with self._lock:
            self._stopped = True
            for task in self._at_work:
                self._ray.cancel(task, force=True)


def make_on_node(run: Run, environment: dict[str, str], folder: str) -> Outcome:
    """Make a run on the node where this is called; its process ends when this one is killed."""
    theirs, ours = os.pipe()
    try:
        if Path(folder).is_dir():
            os.chdir(folder)  # what a stream's path is relative to, where nodes share a file system
        return make_in_child(run, theirs, environment)
    finally:
        os.close(ours)
        os.close(theirs)
