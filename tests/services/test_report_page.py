"""The report in a real browser, at the width of a desk and of a telephone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.judging.reports import report

pytestmark = pytest.mark.services

RANKING = [
    {"source": "models:/digits-source/3#sha256=a", "architecture": "convnet", "probe": 0.9, "probe_error": 0.01,
     "parameters": 221_000, "seconds": 1.0, "knn": 0.8},
    {"source": "torchvision://efficientnet_b0/IMAGENET1K_V1", "architecture": "efficientnet_b0", "probe": 0.7,
     "probe_error": 0.02, "parameters": 5_288_548, "seconds": 12.0, "knn": 0.6},
]  # fmt: skip


@pytest.fixture(params=[1280, 390], ids=["desk", "telephone"])
def page(request: pytest.FixtureRequest, browser: Browser, tmp_path: Path) -> Iterator[tuple[Page, list[str]]]:
    """The report, and what the browser had to say about it."""
    said: list[str] = []
    file = tmp_path / "report.html"
    names = [f"a rather long class name {number}" for number in range(12)]
    file.write_text(report(names=names, classical=0.8, ranking=RANKING, ranking_reason="It has the best probe."))
    opened = browser.new_page(viewport={"width": request.param, "height": 900})
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda asked: said.append(asked.url) if not asked.url.startswith(("file:", "data:")) else None)
    opened.goto(file.as_uri())
    yield opened, said
    if folder := os.environ.get("HEADSTART_SCREENSHOTS"):
        opened.screenshot(path=Path(folder) / f"report-{request.param}.png", full_page=True)
    opened.close()


def test_the_page_opens_without_a_complaint_and_asks_for_nothing_from_elsewhere(page: tuple[Page, list[str]]) -> None:
    assert page[1] == []


def test_every_section_is_seen_and_none_is_wider_than_the_screen(page: tuple[Page, list[str]]) -> None:
    opened, _ = page
    headings = opened.locator("h2")
    assert headings.count() == 13
    for heading in headings.all():
        box = heading.bounding_box()
        assert box is not None
        assert box["height"] > 10
    width = opened.evaluate("document.documentElement.scrollWidth")
    assert width <= opened.viewport_size["width"]  # type: ignore[index]


def test_no_text_is_too_small_to_read_and_no_picture_is_empty(page: tuple[Page, list[str]]) -> None:
    opened, _ = page
    smallest = opened.evaluate(
        """() => Math.min(...[...document.querySelectorAll("body *")].filter(e => e.getClientRects().length)
          .filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()))
          .map(e => parseFloat(getComputedStyle(e).fontSize)))"""
    )
    assert smallest >= 10
    assert opened.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.width >= 24)")
