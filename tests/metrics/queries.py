"""Every query there is: of the dashboards' panels, annotations and variables, of recording rules and alerts."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from tests.unit.test_docker import DASHBOARDS, RULES

RATE_INTERVAL = "1m"  # what Grafana would put for $__rate_interval

# What a well run cannot show, and what is done to a run so that it does.
DRIFT = "labels drawn by lot, eight times for a while"
SHIFT = "a feature is higher by 20, eight times for a while"
RENAMED = "a producer that renames one of three features"
JUNK = "twice 1,000 records that are not JSON"
PROVOKED = {
    "sum by (reason) (rate(stream_moe_dead_letters_total[I]))": JUNK,
    'sum by (partition, detector) (increase(stream_moe_drift_detections_total{scope="mixture"}[I])) > 0': DRIFT,
    'sum by (partition, detector) (increase(stream_moe_drift_detections_total{scope="expert"}[I])) > 0': DRIFT,
    'sum by (partition, detector) (increase(stream_moe_drift_detections_total{scope="feature"}[I])) > 0': SHIFT,
    "time() - max(stream_moe_last_drift_timestamp_seconds)": DRIFT,
    "max by (partition) (stream_moe_last_drift_events)": DRIFT,
    "stream_moe:dead_letters:ratio_rate5m": JUNK,
    "StreamMoeDeadLettersGrowing": JUNK,
    "StreamMoeFeaturesGone": RENAMED,
    "StreamMoeUnknownNames": RENAMED,
    "StreamMoeDriftBurst": DRIFT,
    "StreamMoeAccuracyDrop": "labels drawn by lot",
    "StreamMoeLabelsExpiring": "4,000 events without a label where 500 may wait",
    "StreamMoeCheckpointFailing": "the state directory is replaced by a file",
    "StreamMoeAbsent": "the process is stopped",
}
# What neither shows: such a fault takes longer than the run, or cannot be made with one process. That its parts fit
# together is seen with every comparison made `bool`; that it fires, `promtool test rules` shows.
NOT_PROVOKED = {
    'max by (instance) (stream_moe_state{state="recovering"}) > 0': "a replay is over before the next scrape",
    'sum by (partition, detector) (increase(stream_moe_drift_detections_total{scope="label"}[I])) > 0': "rare class",
    "StreamMoeLagGrowing": "a lag of more than a minute",
    "StreamMoeStalled": "five minutes without an event",
    "StreamMoeCheckpointStale": "15 minutes without a checkpoint",
    "StreamMoeRetentionRisk": "a lag of more than a minute while retention deletes",
    "StreamMoeFencedOrInDoubt": "a second writer, or a broker that dies in a commit (tests/faults has both)",
    "StreamMoeRebalanceStorm": "seven rebalances",
    "StreamMoeWatchdogFired": "a call to the broker that hangs for its deadline",
    "StreamMoeRouterCollapse": "a router that is wrong for long",
    "StreamMoeDeadExpert": "an expert that learns nothing for an hour",
    "StreamMoeMajorityOnly": "half an hour of answers no better than the majority class",
    "StreamMoeLabelsMissing": "half an hour without a label",
    "StreamMoeMemoryNearLimit": "nine tenths of the machine's memory",
}


@dataclass(frozen=True, slots=True)
class Query:
    """One query.

    Attributes
    ----------
    text
        As it stands in the file, with Grafana's variables.
    where
        The places that use it.
    name
        Of an alert its name, else `text` without what the variables select.
    alert
        Whether data is bad news.
    """

    text: str
    where: tuple[str, ...]
    name: str
    alert: bool = False

    @property
    def promql(self) -> str:
        """As Prometheus gets it: everything selected."""
        text = re.sub(r"\$(job|instance|partition)\b", ".+", self.text)
        text = text.replace("$__rate_interval", RATE_INTERVAL).replace("$__range", "30m")
        values = re.fullmatch(r"label_values\((.+), (\w+)\)", text)
        return f"count by ({values.group(2)}) ({values.group(1)})" if values else text

    @property
    def joined(self) -> str:
        """With every comparison made `bool`, so that a condition that does not hold gives 0 and not nothing."""
        return re.sub(r" (==|>=|<=|>|<) (?=-?[\d.]+)", r" \1 bool ", self.promql)


def short(text: str) -> str:
    """Leave out what the variables select."""
    text = re.sub(r',?job=~"\$job"(,instance=~"\$instance")?(,partition=~"\$partition")?', "", text)
    return text.replace("{}", "").replace("$__rate_interval", "I")


def all_queries() -> list[Query]:
    """Give each different query once."""
    found: dict[str, list[str]] = {}
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        places = [
            (target["expr"], panel["title"]) for panel in dashboard["panels"] for target in panel.get("targets", [])
        ]
        places += [(mark["expr"], f"mark {mark['name']}") for mark in dashboard["annotations"]["list"]]
        places += [(choice["query"], f"choice of {choice['name']}") for choice in dashboard["templating"]["list"]]
        for text, place in places:
            found.setdefault(text, []).append(f"{path.stem}: {place}")
    queries = [Query(text, tuple(dict.fromkeys(where)), short(text)) for text, where in found.items()]
    for rule in RULES:
        alert = "alert" in rule
        name = rule["alert"] if alert else rule["record"]
        queries.append(Query(rule["expr"], (f"rule {name}",), name, alert))
    return queries
