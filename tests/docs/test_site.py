"""The site that `make docs` builds."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.pages import ROOT


class Page(HTMLParser):
    """What a page refers to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe") and given.get("src"):
            self.loaded.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.loaded.append(given["href"])


@pytest.fixture(scope="session")
def site(once: Callable[[str, Callable[[Path], None]], Path]) -> dict[Path, Page]:
    """Every page of the site by its path."""

    def build(folder: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
            cwd=ROOT,
            env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout + done.stderr) == (0, "")

    folder = once("site", build)
    return {path: Page(path.read_text()) for path in folder.rglob("*.html")}


def test_every_link_of_the_site_leads_to_a_page_and_an_anchor_that_exist(site):
    broken = []
    for path, page in site.items():
        # The page for addresses that do not exist is shown at any depth, and so refers to the site's root.
        for link in (link for link in page.links if path.name != "404.html" and not urlsplit(link).scheme):
            parts = urlsplit(link)
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file() or (parts.fragment and unquote(parts.fragment) not in site[target].anchors):
                broken.append((str(path), link))
    assert broken == []


def test_the_site_loads_nothing_from_elsewhere(site):
    assert [link for page in site.values() for link in page.loaded if urlsplit(link).netloc] == []
    # The theme fetches these from elsewhere where a page has them.
    assert not any('class="mermaid"' in path.read_text() for path in site)
    (folder,) = {path.parent for path in site if path.name == "404.html"}
    styles = [path.read_text() for path in folder.rglob("*.css")]
    assert styles
    assert not any(re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style) for style in styles)


def test_the_search_finds_every_key_of_a_recipe(site):
    from headstart.training.section import Training

    (folder,) = {path.parent for path in site if path.name == "404.html"}
    index = (folder / "search" / "search_index.json").read_text()
    assert [key for key in Training.model_fields if key not in index] == []
