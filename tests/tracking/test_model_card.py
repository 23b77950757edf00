import re
from collections.abc import Callable

import numpy as np
import pytest
from markdown_it import MarkdownIt

from headstart.judging.evidence import Evidence
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle
from headstart.tracking.model_card import card, model_card

HOSTILE = [
    "<script>alert(1)</script>",
    "`` ` ```",
    "`",
    " ",
    "a`",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "|a|b|",
    "# head\n\n- item\n\n```\nblock",
    "*bold* _it_ ~~no~~ \\",
    "&amp; &lt;b&gt;",
    "\u202egnp.exe\x00\x1b[31m",
]


def page(text: str) -> str:
    """The text as a Markdown page that lets HTML through shows it."""
    return MarkdownIt("commonmark", {"html": True}).enable("table").render(text)


def elements(html: str) -> set[str]:
    return set(re.findall(r"<([a-z0-9]+)", html))


@pytest.fixture
def model(bundle, tmp_path) -> Callable[..., ModelBundle]:
    """A bundle with changes to its fields and provenance."""

    def make(classes: tuple[str, ...] = ("cat", "dog", "owl"), **provenance: object) -> ModelBundle:
        loaded = ModelBundle.load(bundle(tmp_path / "bundle", **provenance))
        loaded.classes = classes
        return loaded

    return make


@pytest.fixture
def evidence(write_evidence, tmp_path) -> Callable[..., Evidence]:
    """What speaks for a model, with changes to its fields."""

    def make(**changes: object) -> Evidence:
        return Evidence.load(write_evidence(tmp_path / "evidence", **changes))

    return make


def test_a_card_says_what_the_model_is_what_it_came_from_and_how_good_it_is(model, evidence):
    source = {"source": "models:/pets-source/3#sha256=12", "source_digest": "sha256:1234567890abcdef"}
    target = model(role="target", strategy="full", versions={"torch": "2.13.0"}, **source)
    proof = evidence(gain=Interval(0.1, 0.02, 0.18), sentence="helped: full gains +0.100 accuracy over scratch.")
    text = card("models:/pets-target/2", "sha256:abcdef0123456789", target, proof)
    for part in (
        "`convnet`, transferred by the strategy `full`",
        "(16 × 16, grey)",
        "3 classes apart: `cat`, `dog`, `owl`",
        "Content `abcdef012345`",
        "source: [`models:/pets-source/3`](#/models/pets-source/versions/3",
        "content `1234567890ab`",
        "made with: torch `2.13.0`",
        "helped: full gains +0.100 accuracy over scratch.",
        "| on 60 test items | | interval |",
        "| gain over scratch | +0.100 | +0.020 to +0.180 |",
        "headstart predict models:/pets-target/2 ",
        "mlflow models serve -m models:/pets-target/2 ",
        "mlflow artifacts download -u models:/pets-target/2/artifacts/evidence -d .",
    ):
        assert part in text
    assert f"| accuracy | {proof.figures['test/accuracy']:.3f} | {proof.figures['test/accuracy_low']:.3f} to " in text
    assert {"table", "a", "code", "pre", "h3"} <= elements(page(text))


def test_the_metric_that_chose_comes_first_in_the_table(model, evidence):
    proof = evidence()
    figures = {**proof.figures, "test/macro_f1_low": 0.5, "test/macro_f1_high": 0.9}
    text = card("models:/a/1", "sha256:1", model(), evidence(metric="macro_f1", figures=figures))
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["on 60 test items", "macro F1", "accuracy", "calibration error"]


def test_a_model_without_evidence_has_a_card_without_figures(model):
    text = card("models:/pets-source/1", "sha256:1", model(), None)
    assert "pretrained" in text
    assert "How good" not in text
    assert "artifacts download" not in text


def test_a_source_that_is_not_registered_is_no_link(model):
    text = card("models:/a/1", "sha256:1", model(source="torchvision://vgg16/IMAGENET1K_V1#sha256=12"), None)
    assert "source: `torchvision://vgg16/IMAGENET1K_V1`" in text


def test_of_many_classes_the_first_are_named_and_the_others_counted(model):
    text = card("models:/a/1", "sha256:1", model(tuple(f"class {number}" for number in range(1000))), None)
    assert "tells 1000 classes apart: `class 0`, " in text
    assert "`class 19` and 980 more." in text
    assert "class 20" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_and_not_obeyed(model, evidence, name):
    ordinary = card("models:/a/1", "sha256:1", model(("cat", "dog"), source="cats"), evidence(sentence="helped"))
    labels = np.array([0, 1])
    predictions = Predictions(np.array(["a", "b"]), labels, np.eye(2), (name, "dog"))
    proof = evidence(sentence=f"helped {name}", predictions=predictions)
    text = card("models:/a/1", "sha256:1", model((name, "dog"), source=name, strategy="pretraining"), proof)
    html = page(text)
    assert elements(html) == elements(page(ordinary))
    shown = "".join(character if character.isprintable() else " " for character in name)
    codes = re.findall(r"<code>([^<]*)</code>", html)
    assert _escaped(shown).strip() in [code.strip() for code in codes]


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def test_a_card_is_one_and_the_same_however_often_it_is_written(model, evidence):
    cards = {card("models:/a/1", "sha256:1", model(), evidence()) for _ in range(2)}
    assert len(cards) == 1


@pytest.mark.parametrize(("role", "says"), [("source", "head start"), ("target", "target task"), ("", "headstart")])
def test_a_registered_model_says_what_its_versions_are_and_how_its_champion_changes(role, says):
    text = model_card("pets-target", role)
    assert says in text
    for command in ("promote", "rollback", "history"):
        assert f"    headstart {command} pets-target" in text


def test_a_commands_name_is_one_word_of_the_shell():
    assert "headstart promote 'a; rm -rf b'" in model_card("a; rm -rf b", "target")


def test_a_model_that_was_pretrained_without_labels_has_features_and_is_offered_as_a_source(model, evidence):
    items = np.array(["a", "b"])
    nothing = Predictions(items, np.full(2, -1), np.empty((2, 0), dtype=np.float32), ())
    proof = evidence(sentence="The source's own data has no labels.", figures={}, predictions=nothing)
    text = card("models:/pets-source/1", "sha256:1", model((), objective="vicreg"), proof)
    assert "`convnet`, pretrained without labels by the objective `vicreg`." in text
    assert "gives 96 features for a target to learn from; it knows no classes." in text
    assert "The source&#39;s own data has no labels." in text or "The source's own data has no labels." in text
    assert "source: {candidates: [models:/pets-source/1]}" in text
    for part in ("headstart predict", "models serve", "| on", "test predictions", "classes apart"):
        assert part not in text
    assert "table" not in elements(page(text))
