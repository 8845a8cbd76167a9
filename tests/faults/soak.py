"""A group of daemons under random kills, pauses, rolling restarts and broker restarts, and the check at the end."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial

from connectors.kafka import KafkaProducerLog
from stream_moe.engine.codec import schema_header
from stream_moe.errors import LogError
from tests.faults.member import Member, wait_for
from tests.faults.rig import CODEC, SMALL, STREAM, Case, FaultyBroker
from tests.kafka.broker.cluster import NODES, Cluster

MEMBERS, PARTITIONS = 3, 8
RATE = 400  # events a second
RESTARTED = (0, 3, 75, -signal.SIGKILL)  # exit codes after which a supervisor starts a daemon again


class Producing:
    """Appends events until told to stop, waiting where the broker is away; counts what is in the log for sure."""

    def __init__(self, case: Case) -> None:
        self._case, self._stop, self.sent = case, threading.Event(), 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.failure: BaseException | None = None
        self._thread.start()

    def _run(self) -> None:
        block = next(STREAM.blocks(STREAM.n_events or 0))
        values = CODEC.encode_events(block)
        while not self._stop.is_set():
            try:
                header = schema_header(STREAM.schema)
                with closing(KafkaProducerLog(self._case.settings, [header], True, PARTITIONS)) as log:
                    while not self._stop.wait(0.1):
                        keys = range(self.sent, self.sent + RATE // 10)
                        log.send((b"%d" % i, values[i % len(values)]) for i in keys)
                        log.flush()
                        self.sent += RATE // 10
            except LogError:  # the broker is away; what was sent in part comes twice, as other records
                time.sleep(0.5)
            except BaseException as error:
                self.failure = error
                return

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        if self.failure is not None:
            raise self.failure


class Group:
    """Three daemons, each started again when it ends."""

    def __init__(self, case: Case, chance: random.Random) -> None:
        self._case, self._chance = case, chance
        self.members = [self._start() for _ in range(MEMBERS)]
        self.codes: Counter[int] = Counter()

    def _start(self) -> Member:
        return self._case.start(*SMALL, session=6.0)

    def supervise(self) -> None:
        for i, member in enumerate(self.members):
            if not member.process.is_alive():
                code = member.wait()
                assert code in RESTARTED, f"exit code {code}\n{member.log}"
                assert "\nTraceback" not in member.log, member.log
                self.codes[code] += 1
                if code > 0:
                    print(f"        exit code {code}: {member.last_line}", flush=True)
                self.members[i] = self._start()

    def kill(self) -> None:
        self._chance.choice(self.members).signal(signal.SIGKILL)

    def pause(self) -> None:
        member, seconds = self._chance.choice(self.members), self._chance.uniform(1, 12)
        member.signal(signal.SIGSTOP)
        self.rest(seconds)
        with suppress(ProcessLookupError):
            member.signal(signal.SIGCONT)

    def roll(self) -> None:
        for member in list(self.members):
            with suppress(ProcessLookupError):
                member.signal(signal.SIGTERM)
            self.rest(self._chance.uniform(2, 6))

    def rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.supervise()
            time.sleep(0.2)


def shake(
    case: Case,
    group: Group,
    producing: Producing,
    seconds: float,
    chance: random.Random,
    done: Counter[str],
    brokers: bool,
) -> None:
    """Do one random fault after the other."""
    began = time.monotonic()

    def restart_broker() -> None:
        assert isinstance(case.broker, FaultyBroker)
        case.broker.kill()
        group.rest(chance.uniform(1, 8))
        case.broker.start()

    def away(how: Callable[[Cluster, int], None]) -> None:
        assert isinstance(case.broker, Cluster)
        how(case.broker, chance.choice(NODES))
        group.rest(chance.uniform(1, 20))
        case.broker.heal()

    faults = {"kill -9": group.kill, "pause": group.pause, "rolling restart": group.roll}
    weights = [5, 3, 1]
    if isinstance(case.broker, Cluster):
        for name, how in ("killed", Cluster.kill), ("frozen", Cluster.freeze), ("restarted", Cluster.restart):
            faults[f"broker {name}"] = partial(away, how)
            weights.append(1)
    elif brokers:
        faults["broker restart"] = restart_broker
        weights.append(1)
    while time.monotonic() - began < seconds:
        group.rest(chance.uniform(2, 10))
        (name,) = chance.choices(list(faults), weights)
        print(f"{time.monotonic() - began:6.0f} s  {name:<16} {producing.sent:>9,} sent", flush=True)
        faults[name]()
        done[name] += 1


def soak(seconds: float, seed: int, brokers: bool = True, cluster: bool = False) -> str:
    """Run for so long and check; AssertionError where an invariant does not hold. Gives the report."""
    chance, done = random.Random(seed), Counter[str]()
    broker = Cluster() if cluster else FaultyBroker()
    try:
        broker.start()
        with Case(broker, PARTITIONS) as case:
            producing = Producing(case)
            try:
                wait_for("the first events", lambda: producing.sent)
                group = Group(case, chance)
                shake(case, group, producing, seconds, chance, done, brokers)
            finally:
                producing.stop()
            deadline = time.monotonic() + 240
            group.rest(1.0)  # whoever was killed by the last fault is started again, be there work left or not
            while case.committed() != case.ends():
                assert time.monotonic() < deadline, f"not drained: {case.committed()} of {case.ends()}"
                group.rest(0.5)
            case.settle(*group.members, seconds=120)
            for member in group.members:
                member.signal(signal.SIGTERM)
            for member in group.members:
                member.ended(0)
            last = case.start(*SMALL)  # the state as it is recovered from what they left
            case.finished(last, seconds=180)
            records = sum(case.ends())
    finally:
        broker.stop()
    faults_done = ", ".join(f"{n} x {name}" for name, n in done.items())
    codes = ", ".join(f"{n} x {code}" for code, n in sorted(group.codes.items()))
    return (
        f"seed {seed}, {seconds / 60:.0f} minutes, {MEMBERS} members, {PARTITIONS} partitions, "
        f"{len(NODES) if cluster else 1} broker(s)\n"
        f"faults: {faults_done}; daemons started again after exit code: {codes}\n"
        f"{producing.sent:,} events sent, {records:,} offsets in the log: each answered exactly once, in order; "
        f"{PARTITIONS} state digests equal an uninterrupted run's; no commit went back"
    )
