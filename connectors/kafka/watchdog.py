"""Deadlines for the client's calls that wait without one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from connectors.kafka.settings import KafkaSettings
from stream_moe.errors import StuckError


class Watchdog:
    """Run calls that have no deadline of their own, and count those that take longer than ours.

    Parameters
    ----------
    settings
        Which broker to name.

    Attributes
    ----------
    fired
        How many calls got no answer in time.
    """

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self.fired = 0

    def within(self, seconds: float, doing: str, call: Callable[[], Any]) -> Any:
        """Run a call; `StuckError` when it is not done after `seconds`.

        The call then goes on in a daemon thread. Where it may change what is committed the process must end: the
        outcome is in doubt, and whoever starts next learns it from the committed offset.
        """
        outcome: list[Any] = []
        failure: list[BaseException] = []

        def work() -> None:
            try:
                outcome.append(call())
            except BaseException as error:
                failure.append(error)

        thread = threading.Thread(target=work, name=f"kafka: {doing}", daemon=True)
        thread.start()
        thread.join(seconds)
        if failure:
            raise failure[0]
        if not outcome:
            self.fired += 1
            raise StuckError(
                f"Kafka at {self._settings.bootstrap}, {doing}: no answer for {seconds:.0f} s, so the outcome is in "
                "doubt and this process ends; start it again: the committed offset shows whether the call was done"
            )
        return outcome[0]
