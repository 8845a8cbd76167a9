"""How much of the HTTP server one address may take, so that nobody starves the others."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

_OF_ONE = 2 / 3  # of everything that one address may take
_RESERVE = 1 / 3  # beside it, for those who ask seldom while others take all
_QUIET = 0.75  # who has so much of its own left asks seldom
_KNOWN = 1024  # addresses that are remembered; the one not heard of for longest is forgotten


class Bucket:
    """Lets `rate` a second through, `burst` at once after a quiet time."""

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self.burst = rate, burst
        self.left, self._counted = burst, now

    def take(self, now: float) -> bool:
        """Say whether there is one, and take it."""
        self.left = min(self.burst, self.left + (now - self._counted) * self._rate)
        self._counted = now
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class Budget:
    """So many a second for all, of which one address gets two thirds; who asks seldom gets some when all is taken.

    Parameters
    ----------
    rate, burst
        A second in the long run, and at once after a quiet time.
    clock
        Seconds.

    Notes
    -----
    Many addresses together can still take everything, the third for those who ask seldom as well: what keeps them
    away is in front of this server. Called by several threads.

    Examples
    --------
    >>> budget = Budget(rate=3, burst=3, clock=lambda: 0.0)
    >>> [budget.take("192.0.2.1") for _ in range(3)], budget.take("192.0.2.2")
    ([True, True, False], True)
    """

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._all, self._reserve = Bucket(rate, burst, clock()), Bucket(rate * _RESERVE, burst * _RESERVE, clock())
        self._each: OrderedDict[str, Bucket] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, address: str) -> bool:
        """Say whether there is one for an address, and take it."""
        now, name = self._clock(), network_of(address)
        with self._lock:
            own = self._each.setdefault(name, Bucket(self._rate * _OF_ONE, self._burst * _OF_ONE, now))
            self._each.move_to_end(name)
            if len(self._each) > _KNOWN:
                self._each.popitem(last=False)
            if not own.take(now):
                return False
            return self._all.take(now) or (own.left >= _QUIET * own.burst - 1 and self._reserve.take(now))


def network_of(address: str) -> str:
    """Return whose an address is: itself, and of IPv6 the 64 bits that one customer gets.

    Examples
    --------
    >>> network_of("::ffff:192.0.2.1"), network_of("2001:db8::7")
    ('192.0.2.1', '2001:0db8:0000:0000')
    """
    if ":" not in address:
        return address
    found = ipaddress.IPv6Address(address.partition("%")[0])
    return str(found.ipv4_mapped) if found.ipv4_mapped else found.exploded[:19]
