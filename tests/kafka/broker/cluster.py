"""Three brokers, each a controller too: topics with three replicas, of which two must hold what is acknowledged."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from typing import Any

from kafka import KafkaAdminClient, errors

from tests.kafka.broker import START_SECONDS, Broker, free_ports

NODES = (1, 2, 3)
_PREFERRED = 0  # the kind of an election, by its number in the protocol
# About 210 MB each: what little they do needs no more heap, no other collector and no second compiler.
_JAVA = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
_PROPERTIES = """
node.id={node}
controller.quorum.voters={voters}
broker.session.timeout.ms={session}
default.replication.factor=3
min.insync.replicas=2
offsets.topic.replication.factor=3
transaction.state.log.replication.factor=3
transaction.state.log.min.isr=2
group.min.session.timeout.ms=1000
"""


class Cluster:
    """Three brokers on this machine.

    Parameters
    ----------
    session
        Seconds without a sign of life after which a broker's partitions get another leader; 9 is Kafka's own value.

    Attributes
    ----------
    bootstrap
        The addresses of all three.
    brokers
        By the number of the node.
    """

    def __init__(self, session: float = 9.0) -> None:
        ports = dict(zip(NODES, free_ports(len(NODES)), strict=True))
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in ports.items())
        self.brokers = {
            node: Broker(
                properties=_PROPERTIES.format(node=node, voters=voters, session=int(session * 1000)),
                controller=port,
                java=_JAVA,
            )
            for node, port in ports.items()
        }
        self.bootstrap = ",".join(broker.bootstrap for broker in self.brokers.values())
        self._away: dict[int, Callable[[], None]] = {}  # what brings each broker back

    def start(self) -> None:
        for broker in self.brokers.values():
            broker.launch()
        for broker in self.brokers.values():
            broker.wait()
        self._until_whole()

    def stop(self) -> None:
        for broker in self.brokers.values():
            broker.kill()  # a farewell would wait for the others, which go as well
            broker.stop()

    # Faults

    def kill(self, node: int) -> None:
        """End a broker at once, as a power cut does."""
        self.brokers[node].kill()
        self._away[node] = self.brokers[node].start

    def freeze(self, node: int) -> None:
        """Stop a broker where it stands: connections stay open and nothing answers."""
        self.brokers[node].pause()
        self._away[node] = self.brokers[node].resume

    def restart(self, node: int) -> None:
        """End a broker, which hands over what it leads, and start it again."""
        self.brokers[node].end(signal.SIGTERM)
        self._away[node] = self.brokers[node].start
        self.heal()

    def heal(self) -> None:
        """Bring every broker back and wait until each holds all of its replicas again."""
        while self._away:
            self._away.popitem()[1]()
        self._until_whole()

    # Who is who

    def leader(self, topic: str, partition: int = 0) -> int:
        """The node that leads a partition."""
        parts = self._ask(lambda admin: admin.describe_topics([topic])[0]["partitions"])
        return next(int(one["leader_id"]) for one in parts if one["partition_index"] == partition)

    def coordinator(self) -> int:
        """The node that keeps every group: the leader of the one partition of the committed offsets."""
        return self.leader("__consumer_offsets")

    def controller(self) -> int:
        """The node that leads the controllers."""
        found = self._ask(lambda admin: admin.describe_metadata_quorum())
        return int(found["topics"][0]["partitions"][0]["leader_id"])

    def prefer(self) -> None:
        """Have each partition led by its first replica again."""
        self._ask(lambda admin: admin.elect_leaders(_PREFERRED, raise_errors=False) or True)

    def _ask(self, question: Callable[[KafkaAdminClient], Any]) -> Any:
        """Ask those that are there; again, where an answer is still to come or the client chose one that is away."""
        there = [broker.bootstrap for node, broker in self.brokers.items() if node not in self._away]
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with contextlib.closing(KafkaAdminClient(bootstrap_servers=there)) as admin:
                    if (answer := question(admin)) is not None:
                        return answer
                    failure = "not yet"
            except errors.KafkaError as error:
                failure = str(error)
            if time.monotonic() > deadline:
                raise RuntimeError(f"the cluster does not answer ({failure}):\n{self.output()}")
            time.sleep(0.3)

    def _until_whole(self) -> None:
        def whole(admin: KafkaAdminClient) -> bool | None:
            parts = [one for topic in admin.describe_topics(admin.list_topics()) for one in topic["partitions"]]
            full = all(len(one["isr_nodes"]) == len(one["replica_nodes"]) and one["leader_id"] >= 0 for one in parts)
            return True if full and len(admin.describe_cluster()["brokers"]) == len(NODES) else None

        self._ask(whole)

    def output(self) -> str:
        """What they printed."""
        return "\n".join(f"{node}: {broker.output()[-1500:]}" for node, broker in self.brokers.items())


_shared: list[Cluster] = []


def shared() -> Cluster:
    """The cluster of this process, started when it is first asked for; it takes a broker for dead after 3 s."""
    if not _shared:
        _shared.append(Cluster(session=3.0))
        _shared[0].start()
    return _shared[0]


def stop_shared() -> None:
    """End it, if it was ever started."""
    while _shared:
        _shared.pop().stop()
