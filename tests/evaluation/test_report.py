import re
from html.parser import HTMLParser

import numpy as np
import pytest

from headstart.evaluation.leaderboard import Candidate, build_leaderboard
from headstart.evaluation.metrics import classification_metrics
from headstart.evaluation.report import render_report

VOID = {"meta", "br", "line", "rect", "circle", "path", "polyline"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """What a browser would see: tags, attributes and text; fails on tags that are not closed in order."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.texts))


def report(*, names=("cat", "dog", "eel"), scratch=0.6, full=0.85, baseline=True, items=600, **changes):
    K = len(names)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, K, size=items)
    order = generator.random(items)

    def candidate(strategy, kind, share, validation):
        predictions = np.where(order < share, labels, (labels + 1) % K)
        ids = np.arange(items).astype(str)
        probabilities = np.eye(K)[predictions]
        source = "models:/digits-source/3#sha256=abc" if kind == "transfer" else None
        return Candidate(strategy, kind, source, ids, labels, probabilities, validation, 75.0)

    candidates = [candidate("full", "transfer", full, 0.9), candidate("zero", "transfer", 0.3, 0.2)]
    if baseline:
        candidates.append(candidate("scratch", "baseline", scratch, 0.5))
    board = build_leaderboard(candidates, **changes.pop("board", {}))
    epochs = [
        {"epoch": n, "train/loss": 2 / n, "val/loss": 2.2 / n, "val/accuracy": 0.9 - 0.5 / n} for n in range(1, 6)
    ]
    arguments = {
        "history": {"full": epochs, "scratch": epochs[:1]},
        "data": {"reference": "data/digits", "classes": K, "test items": 12345, "group": None},
        "lineage": {"source model": "models:/digits-source/3"},
        "reproduction": "headstart run digits.yaml --set seed=0",
    }
    metrics = classification_metrics(labels, candidates[0].probabilities, names)
    return render_report("digits", board, metrics, **(arguments | changes))


@pytest.mark.parametrize(
    ("changes", "heading"),
    [
        ({}, "Transfer helped"),
        ({"scratch": 0.85}, "No evidence that transfer helped"),
        ({"scratch": 0.97}, "Transfer hurt"),
        ({"board": {"min_gain": 0.4}}, "No evidence that transfer helped"),
        ({"baseline": False}, "Nothing to compare with"),
    ],
)
def test_the_first_heading_is_the_verdict(changes, heading):
    first = re.search(r"<h1>(.*?)</h1>", report(**changes), re.DOTALL).group(1)
    assert heading in first


@pytest.mark.parametrize("classes", [2, 20, 21, 100])
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(classes):
    html = report(names=[f"class {index}" for index in range(classes)])
    page = Page(html)
    assert not {"script", "link", "iframe", "img", "object", "use"} & set(page.tags)
    assert not {"src", "href", "action", "xlink:href"} & {name for name, _ in page.attributes}
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_names_from_strangers_are_text_and_never_markup():
    names = [HOSTILE, "dog", "eel"]
    html = report(names=names, data={HOSTILE: HOSTILE}, lineage={"source": HOSTILE}, reproduction=HOSTILE)
    page = Page(html)
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in page.texts
    assert ("title", HOSTILE) in page.attributes


def test_the_figures_of_every_strategy_are_in_the_table():
    text = Page(report()).text
    for expected in ("full chosen models:/digits-source/3", "scratch baseline", "▲ helped", "▼ hurt", "1 min 15 s"):
        assert expected in text
    assert "#sha256" not in text


def test_facts_are_shown_in_order_and_what_is_unknown_is_left_out():
    text = Page(report()).text
    assert "reference data/digits classes 3 test items 12,345 Lineage" in text
    assert "None" not in text
    assert "headstart run digits.yaml --set seed=0" in text


def test_each_trained_strategy_has_a_curve_and_the_others_are_named():
    html = report()
    page = Page(html)
    assert html.count('<polyline class="score"') == 2
    assert "best 0.800 in epoch 5" in page.text
    assert "Not trained by epochs: zero." in page.text


def test_epochs_without_a_usable_number_are_left_out_of_the_curve():
    nan = float("nan")
    history = {"full": [{"epoch": 1, "val/accuracy": 0.5}, {"epoch": 2, "val/accuracy": nan, "train/loss": nan}]}
    page = Page(report(history=history))
    assert "nan" not in " ".join(value or "" for _, value in page.attributes)
    assert "best 0.500 in epoch 1" in page.text


def test_without_any_history_there_is_no_section_of_curves():
    assert "Training curves" not in Page(report(history={})).text


def test_the_largest_confusion_comes_first():
    html = report(names=("cat", "dog", "eel"), full=0.5)
    rows = re.findall(r'<td class="number">(\d+)</td><td class="number">[\d.]+%', html)
    assert len(rows) == 3
    assert [int(row) for row in rows] == sorted(map(int, rows), reverse=True)


def test_the_reader_is_warned_of_few_items_and_of_classes_without_any():
    text = Page(report(items=12, names=tuple("abcdefghijklmnopqrstuvwxyz"))).text
    assert "Only 12 test items" in text
    assert "of 26 classes have no test item" in text


def test_the_reader_is_told_why_a_strategy_that_tests_better_was_not_chosen():
    assert "choosing by the test split would flatter" in Page(report(full=0.2)).text
