"""Print the digest of every learner after the mixed stream, as JSON: run twice, in two processes."""

from __future__ import annotations

import json

from tests.laws.cases import NAMES, build, mixed_stream, run


def digests() -> dict[str, str]:
    x, y = mixed_stream(300)
    found = {}
    for name in NAMES:
        model = build(name)
        run(model, x, y, 64)
        found[name] = model.digest
    return found


if __name__ == "__main__":
    print(json.dumps(digests()))
