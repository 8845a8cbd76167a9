"""Keep a broker in the foreground: `python -m tests.kafka.broker [--port P]` prints its address and waits."""

from __future__ import annotations

import argparse
import signal
import threading

from tests.kafka.broker import Broker


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.broker", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    broker = Broker(parser.parse_args().port)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        broker.start()
        print(broker.bootstrap, flush=True)
        stopped.wait()
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
