"""A connection that is refused says so at once, and says why.

The client tries a broker again and again until its time is up, and then reports the time only: a wrong password or
an expired certificate looks like a broker that is not there, eight seconds and a dozen refused attempts later
(enough to lock an account). Here the first contact ends as soon as every address has refused us for good.
"""

from __future__ import annotations

import ssl
from collections import Counter
from typing import Any

from kafka import errors
from kafka.net.compat import KafkaNetClient
from kafka.net.connection import KafkaConnection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

# Trying again with the same credentials does not help. (A time-out or a reset does not belong here.)
_REFUSALS = (
    errors.SaslAuthenticationFailedError,
    errors.UnsupportedSaslMechanismError,
    errors.IllegalSaslStateError,
    errors.AuthorizationError,
    ssl.SSLError,
)


def refusal(error: BaseException | None) -> Exception | None:
    """Find in an error, or in what led to it or was wrapped by it, that we were refused; None where we were not."""
    for _ in range(8):  # a chain may be a ring
        if isinstance(error, _REFUSALS):
            # An end without a farewell is what a broker's restart looks like, too.
            return None if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError) else error
        if error is None:
            break
        wrapped = error.args[0] if error.args and isinstance(error.args[0], BaseException) else None
        error = wrapped or error.__cause__ or error.__context__
    return None


_ENDS = 3  # so often a connection may end while we authenticate before we take it for a refusal


class _Manager(KafkaConnectionManager):  # type: ignore[misc]
    def __init__(self, net: NetworkSelector, **options: Any) -> None:
        self._refused: dict[Any, Exception] = {}
        self._ended: Counter[Any] = Counter()
        self._reached = False
        super().__init__(net, **options)

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> KafkaConnection:
        # Once the brokers have been reached, a refusal may pass (a broker starts without its users for a moment).
        self._reached = self._reached or self.bootstrapped
        if not self._reached and all(broker.node_id in self._refused for broker in self.cluster.bootstrap_brokers()):
            reason = next(iter(self._refused.values()))
            raise reason if isinstance(reason, errors.KafkaError) else errors.KafkaConnectionError(reason)
        connection = super().get_connection(node_id, *arguments, **options)

        def note(error: BaseException) -> None:
            found = refusal(error)
            if found is None and connection.sasl_enabled and connection.broker_version_data is not None:
                # A broker closes right behind its refusal, and where the end is read together with the refusal the
                # client loses the latter.
                self._ended[node_id] += 1
                if self._ended[node_id] >= _ENDS:
                    found = errors.SaslAuthenticationFailedError("the connection ends in the authentication")
            if found is not None:
                self._refused[node_id] = found

        connection.init_future.add_errback(note)
        return connection


class Client(KafkaNetClient):  # type: ignore[misc]
    """The `kafka_client` of our consumers, producers and admin clients: stops at a refusal."""

    def __init__(self, **options: Any) -> None:
        net = NetworkSelector(**options)
        super().__init__(net, _Manager(net, **options))
