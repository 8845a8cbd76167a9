"""Keep a broker in the foreground: `python -m tests.kafka.broker [--port P]` prints its address and waits."""

from __future__ import annotations

import argparse
import contextlib
import signal
import socket
import sys
import threading

from tests.kafka.broker import Broker


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.kafka.broker", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    port = parser.parse_args().port
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        sys.exit(f"port {port} is in use: a broker may be there already; end it, or choose another --port")
    broker = Broker(port)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    try:
        broker.start()
        print(f"{broker.bootstrap} is ready; Ctrl-C ends it" if sys.stdout.isatty() else broker.bootstrap, flush=True)
        stopped.wait()
    finally:
        broker.stop()


if __name__ == "__main__":
    main()
