"""The report page in a real headless Chromium: it draws everything, says nothing in the console, asks nobody."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stream_moe.engine.replay import replay
from stream_moe.models.catalogue import build_model
from stream_moe.plots.export import write_plots
from stream_moe.plots.page import render_page
from stream_moe.streams import open_stream

PHONE, DESK = {"width": 360, "height": 740}, {"width": 1200, "height": 900}
SINGLE = {"confusion", "accuracy", "kappas", "routing", "experts", "lives", "nodes", "specialization", "calibration"}
# Per picture: what it is, how many marks of data it shows, and whether they have an extent.
DRAWN = """() => [...document.querySelectorAll('.plot')].map(plot => ({
  name: plot.id,
  marks: [...plot.querySelectorAll('path.js-line, .hm image, path.point, .heatmaplayer image')]
    .filter(mark => { const box = mark.getBoundingClientRect(); return box.width + box.height > 2 }).length,
  titles: [...plot.querySelectorAll('.xtitle, .ytitle')].map(title => title.textContent).filter(Boolean).length,
}))"""


@pytest.fixture(scope="module")
def results() -> list[dict[str, Any]]:
    """Three models on two streams, one of them named so that it has to be escaped."""
    found = []
    for stream in ("electricity", "sea_a"):
        for model in ("driftmoe", "hoeffding-tree", "no-change"):
            source = open_stream(stream)

            def build(schema: Any, model: str = model) -> Any:
                return build_model(model, schema)

            told = replay(source, build, events=3000).to_dict()
            classes = list(source.schema.classes)
            found.append({"model": model, "stream": f"{stream}</script><b>", "seed": 1, "classes": classes, **told})
    return json.loads(json.dumps(found))


def look(browser: Any, path: Path, size: dict[str, int], scheme: str) -> tuple[Any, list[str]]:
    """Open a page without a network; return it and all that it said or asked for."""
    page = browser.new_context(viewport=size, color_scheme=scheme, offline=True).new_page()
    heard: list[str] = []
    page.on("console", lambda message: heard.append(message.text))
    page.on("pageerror", lambda error: heard.append(str(error)))
    page.on("request", lambda request: heard.append(request.url) if not request.url.startswith("file:") else None)
    page.goto(path.as_uri())
    page.wait_for_function(
        "document.querySelectorAll('.plot .main-svg').length >= document.querySelectorAll('.plot').length"
    )
    return page, heard


@pytest.mark.parametrize(("size", "scheme"), [(DESK, "light"), (PHONE, "dark")])
@pytest.mark.parametrize("compared", [False, True])
def test_everything_is_drawn(
    browser: Any, results: list[dict[str, Any]], tmp_path: Path, size: dict[str, int], scheme: str, compared: bool
) -> None:
    path = tmp_path / "page.html"
    path.write_text(render_page(results if compared else results[:1]))
    page, heard = look(browser, path, size, scheme)
    drawn = page.evaluate(DRAWN)
    names = {picture["name"] for picture in drawn}
    if compared:
        assert {"accuracies", "ranks"} < names
        assert len(names) == 4
    else:
        assert names == SINGLE
    assert all(picture["marks"] > 0 for picture in drawn), drawn
    assert all(picture["titles"] >= 1 for picture in drawn), drawn
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.locator("b").count() == 0
    ink = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
    assert ink == ("rgb(185, 192, 201)" if scheme == "dark" else "rgb(74, 81, 90)")
    assert heard == []


def test_a_page_that_asks_or_fails_is_noticed(browser: Any, tmp_path: Path) -> None:
    """The checks above can fail."""
    path = tmp_path / "page.html"
    path.write_text('<div class="plot" id="x"><svg class="main-svg"></svg></div><img src="http://example.org/a.png">')
    page, heard = look(browser, path, DESK, "light")
    assert page.evaluate(DRAWN) == [{"name": "x", "marks": 0, "titles": 0}]
    assert any("example.org" in line for line in heard)


@pytest.mark.parametrize(("form", "begins"), [("png", b"\x89PNG\r\n"), ("svg", b"<svg")])
def test_the_same_pictures_as_files(results: list[dict[str, Any]], tmp_path: Path, form: str, begins: bytes) -> None:
    kept = {"png": results[0], "svg": {key: value for key, value in results[0].items() if key != "timeline"}}[form]
    paths = write_plots([kept], tmp_path / "pictures", form)
    assert {path.stem for path in paths} == (
        SINGLE if form == "png" else {"specialization", "confusion", "calibration"}
    )
    assert all(path.read_bytes().startswith(begins) and path.stat().st_size > 3000 for path in paths)
