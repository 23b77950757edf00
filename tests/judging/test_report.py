import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from headstart.features.score import SCORES, Score
from headstart.judging.data_efficiency import Point, Series
from headstart.judging.explanation import Explained
from headstart.judging.reasons import Reason
from headstart.judging.report import glossary, page
from headstart.judging.savings import Cost, Saving
from tests.judging.reports import CURVE, report

VOID = {"meta", "br", "line", "rect", "circle", "path", "polyline", "img"}
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


def test_facts_stand_beside_the_verdict_and_nowhere_else():
    fact = "The test lies far below validation: <b>"
    html = report(facts={"far_below_validation": fact})
    hero = html[: html.index("</section>")]
    assert "The test lies far below validation: &lt;b&gt;" in hero
    assert Page(html).text.count("far below validation") == 1
    assert '<ul class="notes">' not in report()


@pytest.mark.parametrize("classes", [2, 20, 21, 100])
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(classes):
    html = report(names=[f"class {index}" for index in range(classes)])
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "use"} & set(page.tags)
    assert not {"action", "xlink:href"} & {name for name, _ in page.attributes}
    # Links lead to places of the page itself, which are there.
    places = {value for name, value in page.attributes if name == "id"}
    assert {value for name, value in page.attributes if name == "href"} <= {f"#{place}" for place in places}
    assert all(value.startswith("data:image/png;base64,") for name, value in page.attributes if name == "src")
    assert "http" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_every_term_that_is_explained_is_on_the_page_and_says_what_it_means():
    saving = Saving(0.7, Cost(2.0, 1, 2e9), Cost(8.0, 2, 8e9), pretraining=None)
    pages = [Page(report()), Page(report(savings={"full": saving}))]
    explained = {value for each in pages for name, value in each.attributes if name == "title"}

    # Those of numbers are on a page about a regression: tests/regression.
    of_numbers = {glossary.TERMS[name] for name in ("R²", "coverage")}
    assert set(glossary.TERMS.values()) - of_numbers <= explained


def test_names_from_strangers_are_text_and_never_markup():
    names = [HOSTILE, "dog", "eel"]
    html = report(names=names, data={HOSTILE: HOSTILE}, lineage={"source": HOSTILE}, reproduction=HOSTILE)
    page = Page(html)
    assert "script" not in page.tags
    assert ("src", "x") not in page.attributes
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert HOSTILE in page.texts
    assert ("title", HOSTILE) in page.attributes


def test_the_figures_of_every_strategy_are_in_the_table():
    text = Page(report()).text
    for expected in ("full chosen models:/digits-source/3", "scratch baseline", "▲ helped", "▼ hurt", "1 min 15 s"):
        assert expected in text
    assert "#sha256" not in text


def test_a_strategy_that_predicts_the_same_as_another_is_marked():
    text = Page(report(full=0.3, scratch=0.2)).text
    assert "zero same as full models:/digits-source/3" in text
    assert "same as" not in Page(report()).text


def test_facts_are_shown_in_order_and_what_is_unknown_is_left_out():
    text = Page(report()).text
    assert "reference data/digits classes 3 test items 12,345 Lineage" in text
    assert "None" not in text
    assert "headstart run digits.yaml --set seed=0" in text


def test_each_trained_strategy_has_a_curve_and_the_others_are_named():
    html = report()
    page = Page(html)
    assert html.count('<polyline class="score"') == 2
    assert "kept epoch 5: 0.800" in page.text
    assert "Not trained by epochs: zero." in page.text


def test_epochs_without_a_usable_number_are_left_out_of_the_curve():
    nan = float("nan")
    history = {"full": [{"epoch": 1, "val/accuracy": 0.5}, {"epoch": 2, "val/accuracy": nan, "train/loss": nan}]}
    page = Page(report(history=history, kept={"full": 1}))
    assert not re.search(r"\bnan\b", " ".join(value or "" for _, value in page.attributes))
    assert "kept epoch 1" in page.text


@pytest.mark.parametrize(
    ("kept", "words", "dots"),
    [
        (2, "kept epoch 2: 0.800; best 0.812 in epoch 1", ["66.67%"]),
        (0, "kept the start: 0.800; best 0.812 in epoch 1", ["0.0%"]),
        (None, "kept weights between the start and an epoch: 0.800; best 0.812 in epoch 1", []),
    ],
)
def test_the_curve_marks_the_epoch_whose_weights_were_kept_with_the_leaderboards_score(kept, words, dots):
    epochs = [{"epoch": n, "val/accuracy": each} for n, each in enumerate((0.812, 0.8, 0.7), 1)]
    html = report(history={"full": epochs}, kept={"full": kept})
    assert words in Page(html).text
    assert re.findall(r'<circle class="kept" cx="(\S+)"', html) == dots
    assert re.search(r'data-label="validation">0.800<', html)


@pytest.mark.parametrize(
    ("pretraining", "words"),
    [
        (None, "Scratch takes 4.0 times as long. An epoch"),
        (30.0, "has paid for itself with this one target."),
        (90.0, "has paid for itself after 2 targets like this one."),
    ],
)
def test_the_page_says_what_the_transfer_saves_and_when_the_pretraining_has_paid(pretraining, words):
    saving = Saving(0.8, Cost(20.0, 2, 1.5e9), Cost(80.0, 4, 3e9), pretraining)
    text = Page(report(savings={"full": saving})).text
    assert "to reach 0.800 accuracy on the validation split" in text
    assert "full 20.0 s 2 1.5e+09" in text
    assert words in text
    assert ("with the pretraining" in text) == (pretraining is not None)
    assert "What the transfer saves" not in Page(report()).text


def test_without_any_history_there_is_no_section_of_curves():
    assert "Training curves" not in Page(report(history={})).text


@pytest.mark.parametrize(
    ("changes", "asked", "not_asked"),
    [
        ({}, "headstart promote digits-target", "headstart rank"),
        ({"full": 0.3, "scratch": 0.9}, "headstart rank CANDIDATE", "headstart promote"),
        ({"facts": {"test_seen_before": "This is a second look."}}, "headstart evaluate models:/", "training.epochs"),
        ({"facts": {"imbalance_hidden": "Accuracy hides."}}, "evaluation.metric=balanced_accuracy", "training.epochs"),
    ],
)
def test_the_page_ends_its_answer_with_what_to_do(changes, asked, not_asked):
    text = Page(report(**changes)).text
    assert asked in text
    assert not_asked not in text


def test_a_reason_that_speaks_against_brings_its_remedy():
    doubt = [Reason("Is it?", "1", "2", against, "It may be.", "Look again.") for against in (True, False, None)]
    shown = [Page(report(examined={"reasons": (each,)})).text.count("Look again.") for each in doubt]
    assert shown == [1, 0, 0]


def test_every_section_is_there():
    ranking = [{"source": "models:/digits-source/3#sha256=a", "probe": 0.9, "probe_error": 0.01, "seconds": 1.0}]
    html = report(ranking=ranking, ranking_reason="It has the best probe.")
    headings = re.findall(r"<h2>(.*?)</h2>", html)
    assert headings == [
        "Why",
        "What to do next",
        "Leaderboard",
        "What labels are worth",
        "Where full is right and wrong",
        "How far its confidence can be relied on",
        "Under corruption",
        "What its predictions rest on",
        "Training curves",
        "Source ranking",
        "Target data",
        "Lineage",
        "Reproduce",
    ]


def test_each_section_has_its_template_beside_it():
    for section in page._SECTIONS:
        assert Path(section.__file__).with_suffix(".html").is_file(), section


def test_a_source_that_no_probe_could_judge_has_a_dash_and_what_it_knows_at_least_says_so():
    row = {"source": "models:/a/1#sha256=a", "probe": None, "probe_low": None, "chosen": True}
    seen = {"overlap": {"train": 3, "val": 0, "test": 0}, "overlap_complete": False}
    text = Page(report(ranking=[row | seen])).text
    assert "models:/a/1 chosen · knows at least 3 target samples –" in text


def test_what_the_recipe_did_not_ask_for_has_no_section():
    html = report(examined={"robustness": None, "scratch_robustness": None, "curve": None, "explained": None})
    for heading in ("What labels are worth", "Under corruption", "What its predictions rest on", "Source ranking"):
        assert heading not in html


def test_a_reason_stands_beside_its_figure_and_the_threshold():
    text = Page(report()).text
    assert "the source knows something that helps here. probe 0.800 ± 0.020; of random weights 0.500 ± 0.030" in text
    assert "it has learned samples by heart. training 1.000, test 0.800 · threshold: a gap of at most 0.1" in text


def test_the_page_says_where_a_baseline_catches_up():
    # On the logarithmic axis classical is .2 behind at 5 and .02 ahead at 20: 5 · 4^(.2 / .22) = 17.6.
    text = Page(report()).text
    assert "classical catches up with the source's frozen features at about 18 labels a class." in text
    assert "All are fitted to frozen features or to descriptors" in text


def test_a_baseline_that_is_as_good_with_one_label_is_so_from_one_label_on():
    series = tuple(
        Series(name, kind, (Point(1, (0.5,)), Point(4, (0.6,))))
        for name, kind in (("probe on the source", "transfer"), ("classical", "baseline"))
    )
    text = Page(report(examined={"curve": replace(CURVE, series=series)})).text
    assert "classical is as good as the source's frozen features from 1 label a class on." in text


def test_the_page_does_not_say_that_nothing_was_trained_where_something_was():
    probe, classical = CURVE.series
    curve = replace(CURVE, series=(probe, replace(probe, name="full, trained", trained=True), classical))
    text = Page(report(examined={"curve": curve})).text
    assert "catches up with the best start from the source" in text
    assert "Lines that say so are whole trainings, the others are fitted to frozen features" in text


@pytest.mark.parametrize(("speaks_against", "kind"), [(True, "against"), (False, "for"), (None, "untold")])
def test_a_reason_has_one_of_three_signs(speaks_against, kind):
    html = report(examined={"reasons": (Reason("Is it?", "1", "2", speaks_against, "It may be."),)})
    assert f'<li class="{kind}">It may be.' in html


def test_every_metric_and_every_class_has_an_interval():
    html = report()
    text = Page(html).text
    for title in ("accuracy", "balanced accuracy", "macro precision", "macro F1", "calibration error"):
        assert re.search(rf"{title} 0\.\d{{3}} 0\.\d{{3}} to [01]\.\d{{3}}", text), title
    for name in ("cat", "dog", "eel"):
        assert re.search(rf"{name} \d+( 0\.\d{{3}} 0\.\d{{3}} to [01]\.\d{{3}}){{3}}", text), name


def test_maps_that_random_weights_do_not_change_come_with_a_warning():
    unsound = Explained("Grad-CAM", 0.9, False, (), ())
    assert "do not trust them" in Page(report(examined={"explained": unsound})).text
    assert "do not trust them" not in Page(report()).text


def test_the_source_that_was_chosen_is_marked_also_where_it_does_not_lead_the_ranking():
    ranking = [
        {"source": "models:/a/1#sha256=a", "probe": 0.9, "probe_error": 0.01, "chosen": False, "knn": 0.8, "leep": None,
         "overlap": None},
        {"source": "models:/b/2#sha256=b", "probe": 0.8, "probe_error": 0.01, "chosen": True, "knn": 0.7, "leep": None,
         "parameters": 1200.0,
         "overlap": {"train": 1.0, "val": 0.0, "test": 2.0}},
    ]  # fmt: skip
    text = Page(report(ranking=ranking)).text
    assert "models:/b/2 chosen" in text
    assert "models:/a/1 chosen" not in text
    assert "knows 3 target samples" in text
    assert "1,200 " in text
    assert "kNN" in text
    assert "LEEP" not in text


def test_a_score_of_a_source_that_a_package_from_outside_adds_is_shown_too(add_member):
    add_member(SCORES, "spread", Score("spread of features", lambda probed: 0.0))
    ranking = [{"source": "models:/a/1#sha256=a", "probe": 0.9, "knn": 0.8, "logme": 0.5, "spread": 0.123}]
    text = Page(report(ranking=ranking)).text
    assert "kNN LogME spread of features" in text
    assert "0.123" in text


@pytest.mark.parametrize(
    ("classical", "heading"),
    [
        (0.7, "Transfer helped"),
        (0.85, "No evidence that transfer helped: not clearly better than classical"),
        (0.95, "Transfer hurt: classical does better"),
    ],
)
def test_the_heading_names_the_baselines_that_do_as_well_or_better(classical, heading):
    first = re.search(r"<h1>(.*?)</h1>", report(classical=classical), re.DOTALL).group(1)
    assert re.sub(r"\s+", " ", first).strip().endswith(heading)


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
