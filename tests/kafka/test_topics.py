"""docs/topics.md on a real broker: from a shop's topics to predictions, and schemas that grow while members die."""

from __future__ import annotations

import json
import re
import signal
import time
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from connectors.kafka import KafkaProducerLog, KafkaSettings
from tests.kafka.daemons import finish, run_arguments, stream_moe
from tests.kafka.steps import committed_records

PAGE = (Path(__file__).parents[2] / "docs" / "topics.md").read_text()
COUNTRIES = ["DE", "FR", "IT", "ES"]

pytestmark = pytest.mark.kafka


def orders(n: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [
        {
            "order_id": f"o-{i}", "created_at": f"2026-03-01T{i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z",
            "amount": round(float(rng.random()) * 200, 2),
            "country": COUNTRIES[int(rng.integers(4 if i > n // 2 else 3))],
            "items": int(rng.integers(1, 5)), "email": f"a{i}@shop.example",
        }
        for i in range(n)
    ]  # fmt: skip


def send(settings: KafkaSettings, topic: str, plain: list[dict[str, Any]]) -> None:
    log = KafkaProducerLog(replace(settings, topic=topic, labels=None), create=True)
    log.send((None, json.dumps(each).encode()) for each in plain)
    log.close()


def commands(settings: KafkaSettings) -> tuple[list[str], list[str]]:
    """The page's first two commands, with this test's broker and topics."""
    (block,) = (found for found in re.findall(r"```console\n(.*?)```", PAGE, re.S) if "--labels refunds" in found)
    for name, mine in (
        ("localhost:9092", settings.bootstrap),
        ("orders", settings.topic),
        ("refunds", f"{settings.topic}.r"),
    ):
        block = block.replace(name, mine)
    first, second, _ = ([word for word in line.split() if word not in "$"][1:] for line in block.splitlines())
    return first, second


def test_a_shops_topics_give_predictions_as_the_page_says(settings: KafkaSettings, tmp_path: Path) -> None:
    plain, later = orders(2000), orders(2300)[2000:]
    send(settings, settings.topic, plain)
    labels = [
        {"ref": order["order_id"], "is_fraud": order["amount"] > 150, "reported_at": order["created_at"]}
        for order in plain[:1800]
    ]
    send(settings, f"{settings.topic}.r", labels)
    first, second = commands(settings)
    told = finish(stream_moe(*(str(tmp_path / word) if word == "shop.json" else word for word in first)))
    for line in (
        "id order_id, labels' id ref: 100% of the labels' values are ids of events",
        "time created_at: its name, and each value is a moment",
        "labels' time reported_at: its name, and each value is a moment",
        "drop email: each record has a text of its own there",
        "offset 0: id 'o-0', label none, time 2026-03-01T00:00:00Z; amount=",
    ):
        assert line in told
    written = tomllib.loads((tmp_path / "shop.toml").read_text())
    (shown,) = re.findall(r"```toml\n(.*?)```", PAGE, re.S)
    expected = tomllib.loads(shown)
    assert written["records"] == expected["records"] | {"schema": str(tmp_path / "shop.json")}
    assert written["kafka"].keys() == expected["kafka"].keys()
    result = tmp_path / "run.json"
    more = ["--predictions", settings.predictions, "--dead-letters", settings.dead_letters, "--group", settings.group]
    more += ["--until-caught-up", "--json", str(result), "--metrics-port", "0"]
    where = {"shop.toml": str(tmp_path / "shop.toml"), "state": str(tmp_path / "state")}
    finish(stream_moe(*(where.get(word, word) for word in second), *more))
    found = [json.loads(record.value) for record in committed_records(settings, settings.predictions)]
    assert [each["id"] for each in found] == [order["order_id"] for order in plain]
    summary = json.loads(result.read_text())
    assert (summary["labels"], summary["events"], summary["dead_letters"]) == (1800, 1800, {})
    # How many orders were read before their labels hangs on the broker; of these, all labels above are learnt.
    send(settings, settings.topic, later)
    finish(stream_moe(*(where.get(word, word) for word in second), *more))
    found = [json.loads(record.value) for record in committed_records(settings, settings.predictions)][len(plain) :]
    assert [each["id"] for each in found] == [order["order_id"] for order in later]
    right = [each["class"] == str(order["amount"] > 150).lower() for each, order in zip(found, later, strict=True)]
    assert np.mean(right) > 0.9


def growing(n: int) -> list[dict[str, Any]]:
    """Orders that bring a fourth country, later a new field, later a new class."""
    plain = orders(n)
    for i, order in enumerate(plain):
        order["fraud"] = "yes" if order["amount"] > 150 else "no"
        if i > n * 0.6:
            order["coupon"] = i % 3
        if i > n * 0.8 and order["amount"] < 20:
            order["fraud"] = "unsure"
    return plain


def test_a_schema_that_grows_while_the_daemon_is_killed_is_as_if_it_never_was(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    send(settings, settings.topic, growing(6000))
    fields = ["--label-field", "fraud", "--id-field", "order_id", "--time-field", "created_at", "--drop", "email"]
    small = ["--block-rows", "50", "--checkpoint-events", "700", "--model", "hoeffding-tree", "--until-caught-up"]
    digests, predicted = [], []
    for group, kills in (("whole", 0), ("killed", 3)):
        own = replace(settings, group=f"{settings.group}.{group}", predictions=f"{settings.predictions}.{group}")
        state, result = tmp_path / group, tmp_path / f"{group}.json"
        command = run_arguments(own, state, *fields, *small, "--json", str(result))
        for _ in range(kills):
            daemon = stream_moe(*command)
            before = set(state.rglob("*.ckpt"))
            while daemon.poll() is None and len(set(state.rglob("*.ckpt")) - before) < 2:
                time.sleep(0.01)
            time.sleep(0.1)
            assert daemon.poll() is None, "the daemon was done before it could be killed: make the blocks smaller"
            daemon.send_signal(signal.SIGKILL)
            daemon.communicate()
        finish(stream_moe(*command))
        summary = json.loads(result.read_text())
        digests.append(summary["state_digest"])
        values = [json.loads(record.value) for record in committed_records(own, own.predictions)]
        predicted.append([(each["id"], each["proba"]) for each in values])
        assert summary["schema_grown"] == {"feature": 1, "category": 1, "class": 1}
    assert digests[0] == digests[1]
    assert predicted[0] == predicted[1]
    assert len(predicted[0]) == 6000
