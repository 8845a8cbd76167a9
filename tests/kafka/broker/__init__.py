"""A real Apache Kafka broker for tests, from jars that Maven fetches once into `.kafka/`."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from kafka import KafkaAdminClient

HERE = Path(__file__).parent
CACHE = HERE.parents[2] / ".kafka"
SASL_USER, SASL_PASSWORD = "tester", "right-password"
START_SECONDS = 90.0  # about 3 s on an idle machine
_MAVEN_SECONDS = 600

_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{sasl}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
log.dirs={directory}/data
auto.create.topics.enable=false
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
log.cleaner.enable=false
"""


def missing_tools() -> list[str]:
    """Name the programs that a broker needs and this machine does not have."""
    return [tool for tool in ("java", "mvn") if shutil.which(tool) is None]


def jars() -> Path:
    """Give the folder of the broker's jars, fetched by Maven when it is not there yet."""
    folder = CACHE / f"libs-{(HERE / 'pom.xml').stat().st_size}"
    if not folder.is_dir():
        CACHE.mkdir(exist_ok=True)
        fetched = Path(tempfile.mkdtemp(dir=CACHE))
        command = ["mvn", "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_MAVEN_SECONDS, check=False)
        if done.returncode != 0:
            shutil.rmtree(fetched)
            raise RuntimeError(f"Maven could not fetch the broker:\n{(done.stdout + done.stderr)[-4000:]}")
        # Renamed when whole: an interrupted fetch, or two at once, leave no half-filled folder.
        try:
            fetched.rename(folder)
        except OSError:
            shutil.rmtree(fetched)
    return folder


def free_ports(count: int) -> list[int]:
    """Find ports on which nothing listens now.

    They lie below those that the system gives to outgoing connections: one of these could take the port of a broker
    that is being started again, even a client's that tries to reach that very broker.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


class Broker:
    """One broker and controller in a process of its own, with its data in a temporary folder.

    Attributes
    ----------
    bootstrap, sasl_bootstrap
        Addresses without and with a password (SASL PLAIN: `SASL_USER`, `SASL_PASSWORD`).

    Parameters
    ----------
    port
        Of `bootstrap`; 0 = a free one.
    properties
        More lines of server.properties; {port}, {sasl} and {controller} stand for the ports, and a later line
        wins over an earlier one.
    format_options
        More options of the command that formats the data directory.
    controller
        Port of its controller; 0 = a free one.
    java
        Options of the virtual machine.
    """

    def __init__(
        self,
        port: int = 0,
        properties: str = "",
        format_options: Sequence[str] = (),
        controller: int = 0,
        java: Sequence[str] = ("-Xmx512m",),
    ) -> None:
        plain, sasl, free = free_ports(3)
        plain, controller = port or plain, controller or free
        self.bootstrap = f"127.0.0.1:{plain}"
        self.sasl_bootstrap = f"127.0.0.1:{sasl}"
        self.directory = Path(tempfile.mkdtemp(prefix="stream-moe-broker-"))
        self._properties = self.directory / "server.properties"
        self._properties.write_text(
            (_PROPERTIES + properties).format(
                port=plain,
                sasl=sasl,
                controller=controller,
                directory=self.directory,
                user=SASL_USER,
                password=SASL_PASSWORD,
            )
        )
        self._command = ["java", *java, "-cp", f"{jars()}{os.sep}*"]
        self._process: subprocess.Popen[bytes] | None = None
        cluster = ("-t", "MkU3OEVBNTcwNTJENDM2Qg")
        self._java("kafka.tools.StorageTool", "format", *cluster, *format_options, "-c").wait(START_SECONDS)

    def start(self) -> None:
        """Start (or start again, with the data it had) and wait until it answers."""
        self.launch()
        self.wait()

    def launch(self) -> None:
        """Start and do not wait: `wait` does."""
        self._process = self._java("kafka.Kafka")

    def wait(self) -> None:
        """Wait until it answers."""
        assert self._process is not None
        deadline = time.monotonic() + START_SECONDS
        host, port = self.bootstrap.split(":")
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the broker did not start:\n{self.output()[-4000:]}")
            with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
                break
            time.sleep(0.1)
        KafkaAdminClient(bootstrap_servers=self.bootstrap, bootstrap_timeout_ms=30_000).close()

    def kill(self) -> None:
        """End it at once, as a power cut does; `start` brings it back."""
        self.end(signal.SIGKILL)

    def pause(self) -> None:
        """Stop it where it stands: connections stay open and nothing answers. `resume` goes on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it and delete its data."""
        self.end(signal.SIGTERM)
        shutil.rmtree(self.directory, ignore_errors=True)

    def output(self) -> str:
        """What it printed: errors only, as no log configuration is given."""
        return (self.directory / "output").read_text(errors="replace")

    def _java(self, main: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [*self._command, main, *arguments, str(self._properties)]
        with (self.directory / "output").open("ab") as output:
            return subprocess.Popen(command, stdout=output, stderr=output, cwd=self.directory, start_new_session=True)

    def end(self, how: signal.Signals) -> None:
        """End it by a signal; `start` brings it back."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
