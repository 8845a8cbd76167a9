"""By which names the HTTP server may be called, against pages that make their own name lead here (DNS rebinding).

A page in a browser may read what comes from the name that it came from itself. Who owns such a name can have it lead
to 127.0.0.1, or to a daemon in the reader's network, and the browser then hands over the metrics. What it cannot do
is to change the header Host, which says the name that was asked for.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable


class Names:
    """The names of a server: every address, localhost, this machine's own name, and those that are given.

    Parameters
    ----------
    given
        Names without a port, as clients call the server by.

    Examples
    --------
    >>> names = Names(["metrics.example.org"])
    >>> [names.has(host) for host in ("10.0.0.7:9108", "[::1]:9108", "LOCALHOST", "metrics.example.org:443", None)]
    [True, True, True, True, True]
    >>> names.has("evil.example:9108")
    False
    """

    def __init__(self, given: Iterable[str] = ()) -> None:
        own = socket.gethostname()
        self._names = {_plain(name) for name in ("localhost", own, own.partition(".")[0], *given)}

    def has(self, host: str | None) -> bool:
        """Say whether a header Host names this server; one that is not there is no browser's."""
        if host is None:
            return True
        name = _plain(host)
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return True


def _plain(host: str) -> str:
    """Return a name without its port, in small letters."""
    name, colon, port = host.strip().lower().rpartition(":")
    if not colon or not port.isdigit() or (":" in name and not name.endswith("]")):
        name = host.strip().lower()
    return name.rstrip(".")
