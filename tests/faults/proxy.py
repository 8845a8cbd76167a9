"""A TCP proxy between a client and the broker: it can go silent, cut connections, and look at the requests."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

# Kafka's keys of requests
SYNC_GROUP = 14  # by which the leader of a group tells who gets which partitions
END_TXN = 26  # commits or aborts a transaction


class Proxy:
    """Forward connections to `target`, in threads.

    Attributes
    ----------
    address
        Where it listens, "host:port".
    silent
        While set, bytes are taken and go nowhere, and connections stay open: as behind a broken cable.
    on_request
        Called with the API key of each request before that is passed on; where it returns True, the connection gives
        no answer any more.

    Examples
    --------
    >>> with socket.create_server(("127.0.0.1", 0)) as server:
    ...     with Proxy(0, "%s:%d" % server.getsockname()) as proxy:
    ...         host, port = proxy.address.split(":")
    ...         with socket.create_connection((host, int(port))) as client:
    ...             client.sendall(struct.pack(">ih", 2, END_TXN))
    ...             accepted, _ = server.accept()
    ...             accepted.recv(6) == struct.pack(">ih", 2, END_TXN)
    True
    """

    def __init__(self, port: int, target: str) -> None:
        host, target_port = target.split(":")
        self._target = host, int(target_port)
        self._server = socket.create_server(("127.0.0.1", port))
        host, port = self._server.getsockname()
        self.address = f"{host}:{port}"
        self.silent = threading.Event()
        self.on_request: Callable[[int], bool] = lambda key: False
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def cut(self) -> None:
        """End every connection at once."""
        opened, self._open = self._open, []
        for one in opened:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                client, _ = self._server.accept()
                try:
                    broker = socket.create_connection(self._target)
                except OSError:
                    client.close()
                    continue
                self._open += [client, broker]
                mute = threading.Event()
                for call, ends in ((self._requests, (client, broker)), (self._answers, (broker, client))):
                    threading.Thread(target=self._until_closed, args=(call, *ends, mute), daemon=True).start()

    def _until_closed(
        self,
        call: Callable[[socket.socket, socket.socket, threading.Event], None],
        source: socket.socket,
        target: socket.socket,
        mute: threading.Event,
    ) -> None:
        with contextlib.suppress(OSError):
            call(source, target, mute)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _requests(self, source: socket.socket, target: socket.socket, mute: threading.Event) -> None:
        """Pass on whole requests: four bytes of length, two of API key, the rest."""
        buffer = b""
        while piece := source.recv(1 << 16):
            buffer += piece
            while len(buffer) >= 6:
                length, key = struct.unpack_from(">ih", buffer)
                if len(buffer) < 4 + length:
                    break
                request, buffer = buffer[: 4 + length], buffer[4 + length :]
                if self.silent.is_set():
                    continue
                if self.on_request(key):
                    mute.set()
                target.sendall(request)

    def _answers(self, source: socket.socket, target: socket.socket, mute: threading.Event) -> None:
        while piece := source.recv(1 << 16):
            if not (mute.is_set() or self.silent.is_set()):
                target.sendall(piece)
