"""Check the dashboards against Grafana's published schema, which is not kept here.

`python -m tests.metrics.schema FOLDER`, with the `jsonschema` folder of a checkout of grafana-foundation-sdk: the
dashboard's schema as a whole, that of each panel's options and field settings by its plugin, that of each query by
the data source, and units by the list of units. None of them lets an unknown property pass.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from tests.unit.test_docker import DASHBOARDS


def load(folder: Path, name: str) -> dict[str, Any]:
    text = (folder / f"{name}.jsonschema.json").read_text()
    # What tells the cases of a union apart (the constant `type` of a table's cells) is lost in the published schema:
    # several match where one should.
    schema: dict[str, Any] = json.loads(text.replace('"oneOf"', '"anyOf"'))
    return schema


def complaints(schema: dict[str, Any], definition: str, value: Any, where: str) -> Iterator[str]:
    whole = {"definitions": schema["definitions"], "$ref": f"#/definitions/{definition}"}
    for error in jsonschema.Draft7Validator(whole).iter_errors(value):
        yield f"{where}: {'/'.join(map(str, error.path))}: {error.message[:200]}"


def check(folder: Path, dashboard: dict[str, Any]) -> Iterator[str]:
    """Say all that the schemas do not allow."""
    units = {str(unit["const"]) for unit in load(folder, "units")["definitions"].values() if "const" in unit}
    schema = load(folder, "dashboard")
    yield from complaints(schema, "Dashboard", dashboard, dashboard["title"])
    for panel in dashboard["panels"]:
        if panel["type"] == "row":
            continue
        where, plugin = f"{dashboard['title']}, {panel['title']}", load(folder, panel["type"])
        yield from complaints(plugin, "Options", panel["options"], where)
        defaults = panel.get("fieldConfig", {}).get("defaults", {})
        if "custom" in defaults:
            yield from complaints(plugin, "FieldConfig", defaults["custom"], where)
        if defaults.get("unit", "none") not in units:
            yield f"{where}: no unit {defaults['unit']}"
        for target in panel.get("targets", []):
            yield from complaints(load(folder, "prometheus"), "Dataquery", target, where)


def main(folder: Path) -> int:
    found = [line for path in DASHBOARDS for line in check(folder, json.loads(path.read_text()))]
    for line in found:
        print(line)
    print(f"{len(DASHBOARDS)} dashboards, {len(found)} complaints")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
