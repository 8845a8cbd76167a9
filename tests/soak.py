"""Let daemons work under random faults, and check that nothing was lost: `python -m tests.soak --minutes 15`."""

from __future__ import annotations

import argparse

from tests.faults.soak import soak


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--brokers", type=int, choices=(1, 3), default=1, help="3: killed, frozen and restarted in turn"
    )
    options = parser.parse_args()
    print(soak(options.minutes * 60, options.seed, cluster=options.brokers == 3))


if __name__ == "__main__":
    main()
