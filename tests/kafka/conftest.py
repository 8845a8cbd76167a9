from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from connectors.kafka import KafkaSettings
from tests.kafka.broker import Broker, missing_tools


@pytest.fixture(scope="session")
def own_broker() -> Iterator[Broker]:
    """A broker that these tests started: one that may be asked for passwords."""
    missing = missing_tools()
    if missing and "CI" not in os.environ:
        pytest.skip(f"no {' and no '.join(missing)} here to start an Apache Kafka broker with")
    broker = Broker()
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


@pytest.fixture(scope="session")
def bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of a broker: STREAM_MOE_TEST_BOOTSTRAP, else one that is started here."""
    given = os.environ.get("STREAM_MOE_TEST_BOOTSTRAP")
    if given:
        return given
    own: Broker = request.getfixturevalue("own_broker")
    return own.bootstrap


@pytest.fixture
def settings(bootstrap: str) -> KafkaSettings:
    """Settings with topics and a group that no other test uses; the input topic does not exist yet."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    return KafkaSettings(
        bootstrap=bootstrap,
        topic=f"{name}.events",
        predictions=f"{name}.predictions",
        dead_letters=f"{name}.dead-letters",
        group=f"{name}.group",
    )


@pytest.fixture
def closing() -> Iterator[Callable[[Any], Any]]:
    """Close in reverse order what a test opened, whatever became of it."""
    opened: list[Any] = []

    def remember(resource: Any) -> Any:
        opened.append(resource)
        return resource

    yield remember
    for resource in reversed(opened):
        resource.close()
