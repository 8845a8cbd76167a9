"""The live page of a running engine in a real headless Chromium: right, legible, usable by keyboard and by phone."""

from __future__ import annotations

import os
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_moe.telemetry.board import Board
from stream_moe.telemetry.health import Verdict
from stream_moe.telemetry.http import TelemetryServer
from stream_moe.telemetry.routes import make_routes
from tests.browser.daemon import Daemon, daemon
from tests.unit.reports import make_report

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1200, "height": 900}
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]
SHOWN: dict[str, tuple[str, dict[str, str]]] = {  # on the page, and as scraped
    "events read": ("events_consumed_total", {}),
    "predictions committed": ("predictions_committed_total", {}),
    "behind the log, records": ("consumer_lag_records", {"topic": "events"}),
    "behind the log, s": ("consumer_lag_seconds", {}),
    "waiting for a label": ("pending_events", {}),
    "labels too late": ("labels_expired_total", {}),
    "labels twice": ("labels_duplicate_total", {}),
    "labels that contradict the first": ("labels_conflicting_total", {}),
    "labels without an event": ("labels_orphan_total", {}),
    "checkpoint, bytes": ("checkpoint_bytes", {}),
    "checkpoint, s to write": ("checkpoint_duration_seconds", {}),
    "kept in the log before here, records": ("retention_headroom_records", {"topic": "events"}),
    "accuracy, all": ("accuracy_ratio", {"window": "all"}),
    "accuracy, recent": ("accuracy_ratio", {"window": "recent"}),
    "kappa": ("kappa_ratio", {}),
    "kappa_M": ("kappa_majority_ratio", {}),
    "kappa_temporal": ("kappa_temporal_ratio", {}),
    "log loss": ("log_loss", {}),
    "drifts, experts": ("drift_detections_total", {"scope": "expert", "detector": "adwin"}),
    "drifts, mixture": ("drift_detections_total", {"scope": "mixture", "detector": "adwin"}),
    "router load (0 one expert, 1 even)": ("router_load_entropy_ratio", {}),
    "router confidence": ("router_confidence_ratio", {}),
}
OF_EXPERT = {
    "routed": "expert_routed_total",
    "trained": "expert_trained_total",
    "accuracy, recent": "expert_accuracy_ratio",
    "resets": "expert_resets_total",
    "nodes": "expert_nodes",
}
TABLE = """id => { const [head, ...rows] = document.querySelectorAll(`#${id} tr`);
  const names = [...head.children].map(cell => cell.textContent);
  return [...rows].map(row =>
    Object.fromEntries([...row.children].map((cell, i) => [names[i], cell.textContent]))) }"""
# Every text that is seen, its colour, what is behind it, and whether it counts as large.
TEXTS = """() => {
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  const behind = element => { for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor; if (!/, 0\\)$/.test(colour)) return colour }
    return "rgb(255, 255, 255)" };
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || !element.checkVisibility() || element.closest("script, title")) continue;
    const style = getComputedStyle(element), pixels = parseFloat(style.fontSize);
    found.push([text, element instanceof SVGElement ? style.fill : style.color, behind(element),
                pixels >= 24 || (pixels >= 18.66 && style.fontWeight >= 700)]);
  }
  return found }"""
# Lines, and the cells of an expert that gets a quarter or more; paler ones say that there is little to see.
LINES = """() => [...document.querySelectorAll(".line, .drift, path.l5, path.l7")].map(e =>
  [e.getAttribute("class"), getComputedStyle(e)[e.matches(".line, .drift") ? "stroke" : "fill"],
   getComputedStyle(document.body).backgroundColor, true])"""


@pytest.fixture(scope="module")
def settled() -> Iterator[Daemon]:
    """An engine on two partitions that has read all there is."""
    with daemon("sea_a", "driftmoe-data", rate=4_000, partitions=2) as running:
        running.wait_for(3_000)
        running.settle()
        yield running


def look(browser: Any, url: str, size: dict[str, int] = DESK, **options: Any) -> tuple[Any, list[str]]:
    """Open a page; return it and all that it said, or asked for elsewhere."""
    page, heard = browser.new_context(viewport=size, **options).new_page(), list[str]()
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(url) else heard.append(request.url))
    page.goto(url)
    return page, heard


def scrape(running: Daemon) -> Samples:
    with urllib.request.urlopen(running.server.url + "metrics", timeout=30) as response:
        families = text_string_to_metric_families(response.read().decode())
        return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def same(shown: str, known: float) -> bool:
    """Whether a number on the page is the scraped one, rounded as it is shown."""
    text, scale = shown.replace(",", ""), 1.0
    if text.endswith("%"):
        text, scale = text[:-1], 100.0
    digits = len(text.partition(".")[2])
    return text == f"{known * scale:.{digits}f}"


@pytest.mark.parametrize("size", [PHONE, DESK])
@pytest.mark.parametrize("script", [True, False])
def test_the_page_shows_what_is_scraped(browser: Any, settled: Daemon, size: dict[str, int], script: bool) -> None:
    page, heard = look(browser, settled.server.url, size, java_script_enabled=script)
    page.goto(settled.server.url + "?partition=1")
    samples = scrape(settled)

    def scraped(name: str, labels: dict[str, str]) -> float:
        return samples[f"stream_moe_{name}", frozenset((labels | {"partition": "1"}).items())]

    rows = {row[""]: row["value"] for row in page.evaluate(TABLE, "numbers")}
    wrong = {label: rows[label] for label, (name, of) in SHOWN.items() if not same(rows[label], scraped(name, of))}
    assert not wrong
    assert len(rows) > len(SHOWN)
    experts = page.evaluate(TABLE, "each-expert")
    assert len(experts) == 12
    for e, expert in enumerate(experts):
        for column, name in OF_EXPERT.items():
            assert same(expert[column], scraped(name, {"expert": str(e)})), (e, column)
    for e, row in enumerate(page.evaluate(TABLE, "class-by-expert")):
        for name, share in row.items():
            if name not in ("expert", "events") and share:
                affinity = scraped("expert_class_affinity_ratio", {"expert": str(e), "class": name})
                assert same(share, affinity), (e, name)
    tiles = page.evaluate("""() => Object.fromEntries([...document.querySelectorAll(".tiles div")]
        .map(tile => [tile.children[0].textContent, tile.children[1].textContent]))""")
    assert same(tiles["Accuracy, recent"], scraped("accuracy_ratio", {"window": "recent"}))
    assert same(tiles["Kappa"], scraped("kappa_ratio", {}))
    assert tiles["Last checkpoint"].endswith(" ago")
    assert page.locator('meta[http-equiv="refresh"]').count() == (0 if script else 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert heard == []
    page.context.close()


def test_a_partition_is_chosen_by_a_link(browser: Any, settled: Daemon) -> None:
    page, heard = look(browser, settled.server.url, java_script_enabled=False)
    overview = page.evaluate(TABLE, "partitions")
    assert [row["partition"] for row in overview] == ["0", "1"]
    page.get_by_role("link", name="1", exact=True).click()
    page.get_by_role("link", name="latest day").click()
    assert page.url.endswith("?partition=1&span=day")
    assert page.locator("header p").first.inner_text() == "topic events, partition 1"
    assert page.locator('#overview [aria-current="page"]').inner_text() == "1"
    assert heard == []
    page.context.close()


def test_pictures_have_names_with_their_numbers(browser: Any, settled: Daemon) -> None:
    page, _ = look(browser, settled.server.url, PHONE)
    pictures = page.get_by_role("img")
    names = [pictures.nth(i).get_attribute("aria-label") for i in range(pictures.count())]
    assert len(names) == 4
    assert names[0].startswith("Accuracy and kappas. accuracy 0.")
    assert "Drifts marked:" in names[0]
    assert "lately" in names[3]
    sizes = page.evaluate("""() => [...document.querySelectorAll("[role=img] .plot")].map(plot =>
        [plot.getBoundingClientRect().width, plot.querySelectorAll("path").length])""")
    assert all(width > 150 and paths > 1 for width, paths in sizes), sizes
    page.context.close()


def test_every_stop_of_the_keyboard_is_seen_and_in_order(browser: Any, settled: Daemon) -> None:
    page, _ = look(browser, settled.server.url, PHONE)
    stops = []
    for _ in range(30):
        page.keyboard.press("Tab")
        at = page.evaluate("""() => { const e = document.activeElement, box = e.getBoundingClientRect();
            return e === document.body ? null : [e.id || e.textContent, box.top + scrollY, box.left,
            getComputedStyle(e).outlineStyle, box.right > 0] }""")
        if at is None:
            break
        stops.append(at)
    names = [stop[0] for stop in stops]
    assert names[:4] == ["To the numbers", "partitions", "0", "1"]
    assert names[4:7] == ["latest hour", "latest day", "since the start"]
    assert {"by-scope", "class-by-expert", "each-expert", "numbers", "metrics"} <= set(names)
    assert [stop[1:3] for stop in stops[1:]] == sorted(stop[1:3] for stop in stops[1:])
    assert all(outline != "none" and on_screen for _, _, _, outline, on_screen in stops)
    page.context.close()


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2.2 of two colours as a browser computes them."""

    def luminance(colour: str) -> float:
        parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
        r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("ill", [False, True])
def test_contrast_is_that_of_wcag_aa(browser: Any, settled: Daemon, scheme: str, ill: bool) -> None:
    """4.5 for text, 3 for large text and lines; once with a page on which much is wrong."""
    if ill:
        board = Board()
        board.update(make_report(12, 12, lag_seconds=100.0, labels=make_report().labels))
        board.reports[0].learner.load_entropy = 0.1
        board.reports[0].learner.experts[0].window_accuracy = 0.99
        routes = make_routes(board, lambda: Verdict(True, "turns"), lambda: Verdict(True, ""))
        with TelemetryServer(routes, port=0) as server:
            page, _ = look(browser, server.url, color_scheme=scheme)
    else:
        page, _ = look(browser, settled.server.url, color_scheme=scheme)
    page.evaluate("document.getElementById('lost').hidden = false")
    page.evaluate("document.getElementById('lost').textContent = 'No answer'")
    texts = page.evaluate(TEXTS)
    assert len(texts) > 150
    if ill:
        assert {"behind", "collapsed", "No answer"} <= {text for text, *_ in texts}
    else:
        texts += page.evaluate(LINES)
    bad = {
        text: round(ratio, 2)
        for text, ink, ground, large in texts
        if (ratio := contrast(ink, ground)) < (3 if large else 4.5)
    }
    assert not bad
    page.context.close()


def test_an_open_page_keeps_its_place_and_costs_nothing_more(browser: Any) -> None:
    """50 refreshes while the engine runs: new numbers, the same place, no more threads, files or nodes."""
    with daemon("electricity", "driftmoe-data", rate=1_500) as running:
        running.wait_for(1_500)
        page, heard = look(browser, running.server.url, PHONE)
        page.locator("#each-expert").focus()
        page.evaluate("document.getElementById('each-expert').scrollLeft = 60")
        page.evaluate("scrollTo(0, 900)")
        page.evaluate("refresh()")
        place = """() => { const e = document.activeElement;
            return [scrollY, e.getBoundingClientRect().top, e.id, document.getElementById(e.id).scrollLeft] }"""
        before, nodes = page.evaluate(place), page.evaluate("document.querySelectorAll('*').length")
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        events = page.evaluate(TABLE, "numbers")[2]["value"]
        page.evaluate(
            "async () => { for (let i = 0; i < 50; i++) {"
            " await refresh(); await new Promise(done => setTimeout(done, 90)) } }"
        )  # answers are rationed
        after = page.evaluate(place)
        assert after[2:] == before[2:] == ["each-expert", 60]
        # What grows above moves the page under the eyes, unless the browser makes up for it; one of both stays.
        assert after[0] == before[0] or abs(after[1] - before[1]) <= 3
        assert int(page.evaluate(TABLE, "numbers")[2]["value"].replace(",", "")) > int(events.replace(",", ""))
        assert page.evaluate("document.querySelectorAll('*').length") < 1.3 * nodes
        assert threading.active_count() <= threads + 1  # the last answer may still be on its way
        assert len(os.listdir("/proc/self/fd")) <= files + 2
        assert heard == []
    page.evaluate("refresh()")
    page.wait_for_selector("#lost:not([hidden])")
    assert page.locator("#lost").inner_text().startswith("No answer since ")
    assert page.title() == "no answer · stream_moe"
    page.context.close()


def test_the_page_refreshes_by_itself(browser: Any, settled: Daemon) -> None:
    page, _ = look(browser, "about:blank")
    page.clock.install()
    asked = list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(settled.server.url)
    for _ in range(3):
        with page.expect_response(settled.server.url):
            page.clock.run_for(5_000)
        while page.evaluate("busy"):
            page.wait_for_timeout(10)
    assert asked == [settled.server.url] * 4
    page.context.close()
