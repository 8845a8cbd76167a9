"""What a change of the group's members costs, on a real broker: `python -m benchmarks.rebalance [SCENARIO ...]`.

Daemons of one group work off what comes at a steady rate. Then a member joins, leaves, is killed, or all are replaced
one by one, and the timestamps of the committed predictions tell how long each partition was silent.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition, errors

from connectors.kafka import KafkaProducerLog, KafkaSettings
from stream_moe.engine.codec import JsonCodec, schema_header
from stream_moe.streams import open_stream
from tests.kafka.broker import Broker
from tests.kafka.daemons import CLI, Members

PARTITIONS, RATE = 6, 600  # events a second, over all partitions
BEFORE, AFTER = 12.0, 15.0  # seconds of steady work before and after
CAUGHT_UP = 2.0  # seconds behind the end of the log


class Group:
    """Daemons that share a topic, somebody who fills it, and what is seen of both from outside."""

    def __init__(self, settings: KafkaSettings, folder: Path, model: str) -> None:
        self._settings, self._folder = settings, folder
        self._daemons = Members(settings, folder, "--model", model, cli=CLI)
        self._stop = threading.Event()
        self._ready = threading.Event()
        self.members: list[subprocess.Popen[bytes]] = []  # that have not left
        self.drained: list[float] = []  # seconds from SIGTERM to the end
        self._producer = threading.Thread(target=self._produce)
        self._producer.start()
        self._ready.wait(30)
        self._admin = KafkaAdminClient(**settings.client())
        self._watcher = KafkaConsumer(**settings.client(), group_id=settings.group, enable_auto_commit=False)

    def _produce(self) -> None:
        stream = open_stream("electricity")
        values = JsonCodec(stream.schema).encode_events(next(stream.blocks(45_312)))
        headers, sent, began = [schema_header(stream.schema)], 0, time.monotonic()
        with closing(KafkaProducerLog(self._settings, headers, create=True, partitions=PARTITIONS)) as log:
            while not self._stop.wait(0.05):
                due = int((time.monotonic() - began) * RATE)
                log.send((b"%d" % i, values[i % len(values)]) for i in range(sent, due))
                log.flush()
                sent = due
                self._ready.set()

    def start(self) -> subprocess.Popen[bytes]:
        self.members.append(self._daemons.start())
        return self.members[-1]

    def owners(self) -> dict[int, str]:
        """Member of each partition; empty while the group is not settled."""
        try:
            (group,) = self._admin.describe_groups([self._settings.group]).values()
        except errors.CoordinatorNotAvailableError:  # the broker is about to make its topic of offsets
            return {}
        if group["group_state"] != "Stable" or len(group["members"]) != len(self.members):
            return {}
        return {
            partition: member["member_id"]
            for member in group["members"]
            for topic in member["member_assignment"]["assigned_partitions"]
            for partition in topic["partitions"]
        }

    def behind(self) -> float:
        """Seconds that the last of the partitions is behind the end of its log."""
        places = [TopicPartition(self._settings.topic, partition) for partition in range(PARTITIONS)]
        ends = self._watcher.end_offsets(places)
        lags = [ends[place] - (self._watcher.committed(place) or 0) for place in places]
        return max(lags) / (RATE / PARTITIONS)

    def settled(self) -> dict[int, str]:
        """Wait until every partition has its owner, which has caught up; who has what."""
        deadline = time.monotonic() + 180
        while len(owners := self.owners()) < PARTITIONS or self.behind() > CAUGHT_UP:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the group did not settle: {self.owners()}, {self.behind()} s behind")
            time.sleep(0.2)
        return owners

    def stop(self, member: subprocess.Popen[bytes]) -> None:
        began = time.monotonic()
        member.send_signal(signal.SIGTERM)
        member.wait(120)
        self.drained.append(time.monotonic() - began)
        self.members.remove(member)

    def silences(self, since: float) -> dict[int, float]:
        """Longest time without a committed prediction, of each partition, in seconds."""
        consumer = KafkaConsumer(**self._settings.client(), group_id=None, isolation_level="read_committed")
        found = {}
        with closing(consumer):
            for partition in range(PARTITIONS):
                place = TopicPartition(self._settings.predictions, partition)
                consumer.assign([place])
                consumer.seek_to_beginning(place)
                end, stamps = consumer.end_offsets([place])[place], list[int]()
                while consumer.position(place) < end:
                    stamps += [r.timestamp for r in consumer.poll(timeout_ms=500).get(place, [])]
                times = np.array([*stamps, time.time() * 1000]) / 1000
                begin = max(0, int(np.searchsorted(times, since)) - 1)
                found[partition] = float(np.diff(times[begin:]).max())
        return found

    def replayed(self) -> int:
        """Events that the members of the end have learnt again, after all have stopped."""
        results = [json.loads(path.read_text()) for path in self._folder.glob("*.json")]
        return sum(result.get("replayed_events", 0) for result in results)

    def close(self) -> None:
        self._stop.set()
        self._daemons.close()
        self._producer.join()
        self._admin.close()
        self._watcher.close(autocommit=False)


def join(group: Group) -> None:
    group.start()


def leave(group: Group) -> None:
    group.stop(group.members[0])


def kill(group: Group) -> None:
    member = group.members.pop(0)
    member.kill()
    member.wait()


def roll(group: Group) -> None:
    for member in list(group.members):
        group.stop(member)
        group.start()
        group.settled()


SCENARIOS = {"join": (join, 2), "leave": (leave, 3), "kill": (kill, 3), "roll": (roll, 3)}


def measure(broker: Broker, name: str, model: str) -> str:
    act, members = SCENARIOS[name]
    base = KafkaSettings(broker.bootstrap, f"{name}-events")
    settings = replace(base, predictions=f"{name}-predictions", dead_letters=f"{name}-dead", group=name)
    with tempfile.TemporaryDirectory() as folder, closing(Group(settings, Path(folder), model)) as group:
        for _ in range(members):
            group.start()
        group.settled()
        time.sleep(BEFORE)
        before, began = group.settled(), time.time()
        usual = group.silences(began - BEFORE / 2)
        act(group)
        after = group.settled()
        took = time.time() - began
        time.sleep(AFTER)
        silent = group.silences(began)
        for member in list(group.members):
            group.stop(member)
        moved = [silent[p] for p in range(PARTITIONS) if before[p] != after[p]]
        stayed = [silent[p] for p in range(PARTITIONS) if before[p] == after[p]]
        cells = [f"{len(moved)}", f"{median(moved):.1f} ({max(moved):.1f})" if moved else ""]
        cells += [f"{median(stayed):.1f} ({max(stayed):.1f})" if stayed else "", f"{median(usual.values()):.1f}"]
        cells += [f"{took:.1f}", f"{group.replayed():,}", f"{median(group.drained):.1f} ({max(group.drained):.1f})"]
        return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rebalance", description=__doc__)
    parser.add_argument("scenario", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--model", default="driftmoe")
    options = parser.parse_args()
    print(f"{options.model}, {PARTITIONS} partitions, {RATE} events a second; seconds: median (longest)\n")
    print("| what | partitions moved | these silent | those that stayed | before | until settled | replayed events "
          "| a member drained in |")  # fmt: skip
    print("| --- " * 8 + "|")
    broker = Broker()
    try:
        broker.start()
        for name in options.scenario or SCENARIOS:
            print(measure(broker, name, options.model), flush=True)
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
