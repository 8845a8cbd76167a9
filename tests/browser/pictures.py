"""Take the pictures of the live page that the documentation shows, from a real engine in a real browser.

    python -m tests.browser.pictures docs/pictures

Half a minute of Agrawal's loan applications, 2,500 a second, whose rule changes every 8,000 events.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.conftest import BROWSER
from tests.browser.daemon import daemon

STREAM, MODEL = "agrawal:function=1,4,7:every=8000", "driftmoe-data"
EVENTS, RATE = 60_000, 2_500
WIDTH, HEIGHT = 1200, 1340  # down to the experts' routing


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    with daemon(STREAM, MODEL, RATE) as running, sync_playwright() as driver:
        running.wait_for(EVENTS)
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        for name, scheme in (("live-page", "light"), ("live-page-dark", "dark")):
            context = browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme=scheme)
            page = context.new_page()
            page.goto(running.server.url)
            path = folder / f"{name}.png"
            page.screenshot(path=path)
            print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
        browser.close()


if __name__ == "__main__":
    main()
