import json
from dataclasses import replace

import numpy as np
import pytest

from headstart.errors import InputError
from headstart.judging.diagnostics import diagnose, headline_facts
from headstart.judging.report.page import report
from headstart.judging.section import Evaluation
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import read_predictions
from headstart.modalities.image.section import ImageInput
from headstart.models.bundle import ModelBundle
from headstart.training.flops import epoch_flops
from headstart.training.section import Training


@pytest.fixture(scope="module")
def looked(assessment, contenders, dataset):
    section = Evaluation(resamples=100, curve=(2,), robustness=12, explanations=4)
    return diagnose(assessment, dataset, contenders["zero"].path, evaluation=section)


def test_a_closer_look_finds_all_that_the_recipe_asks_for(looked, assessment, dataset):
    chosen = assessment.metrics["zero"]
    assert looked.intervals["macro_f1"].value == pytest.approx(chosen["macro_f1"])
    assert looked.intervals["ece"].value == pytest.approx(chosen["ece"])
    assert [each.name for each in looked.classes] == list(dataset.classes)
    assert looked.curve.sizes[0] == 2
    assert looked.robustness.items == looked.scratch_robustness.items == 12
    assert len(looked.explained.hardest) == len(looked.explained.right) == 2
    assert all(each.label == each.predicted for each in looked.explained.right)
    assert len(looked.explained.right[0].neighbours) == 3
    assert looked.explained.method == "Grad-CAM"
    questions = " ".join(each.question for each in looked.reasons)
    assert "features tell the target's classes apart" in questions
    assert "Does zero overfit" in questions
    assert "Does scratch overfit" in questions


def test_the_hardest_items_are_those_of_the_kept_predictions(looked, assessment):
    kept = read_predictions(assessment.predictions / "zero.parquet")
    chances = kept.probabilities[np.arange(len(kept.labels)), kept.labels]
    assert [each.probability for each in looked.explained.hardest] == pytest.approx(np.sort(chances)[:2])


def test_its_numbers_are_kept_as_json_without_the_pictures(looked):
    text = looked.to_json()
    found = json.loads(text)
    assert found["intervals"]["accuracy"]["low"] <= found["intervals"]["accuracy"]["value"]
    assert [each["baseline"] for each in found["curve"]["catch_ups"]] == ["probe on random weights", "classical"]
    assert len(found["robustness"]["corrupted"]) == 7
    assert "data:image" not in text


def test_the_facts_beside_the_verdict_are_found_in_what_was_judged(looked, assessment, dataset):
    lead = looked.robustness.mean - looked.scratch_robustness.mean
    assert looked.robustness_lead.value == pytest.approx(lead)
    assert headline_facts(assessment, looked, dataset) == {}
    worse = replace(looked, robustness_lead=Interval(-0.3, -0.4, -0.2))
    facts = headline_facts(assessment, worse, dataset)
    assert list(facts) == ["worse_when_corrupted"]
    assert assessment.with_facts(facts).leaderboard.facts == facts


def test_what_the_recipe_switches_off_is_not_computed(assessment, contenders, dataset, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError

    for name in ("diagnostics.data_efficiency", "diagnostics.robustness", "explanation.explain"):
        monkeypatch.setattr(f"headstart.judging.{name}", refuse)
    section = Evaluation(resamples=100, curve=(), robustness=0, explanations=0)
    found = diagnose(assessment, dataset, contenders["zero"].path, evaluation=section)
    assert (found.curve, found.robustness, found.scratch_robustness, found.explained) == (None, None, None, None)


@pytest.mark.parametrize(("each", "words"), [(5, "is right on 0.9"), (1, "cannot be told: a probe asks")])
def test_however_many_classes_there_are_the_probe_is_asked_about_some_samples_of_each_or_says_nothing(
    assessment, contenders, dataset, monkeypatch, each, words
):
    # As a thousand classes leave one of a thousand samples to each.
    monkeypatch.setattr("headstart.judging.diagnostics._SEEN", len(dataset.classes))
    monkeypatch.setattr("headstart.judging.diagnostics._PROBED_PER_CLASS", each, raising=False)
    section = Evaluation(resamples=100, curve=(), robustness=0, explanations=0)
    found = diagnose(assessment, dataset, contenders["zero"].path, evaluation=section)
    assert words in found.reasons[0].sentence


def test_the_curve_trains_the_chosen_strategy_and_scratch_where_the_recipe_asks_for_it(assessment, contenders, dataset):
    section = Evaluation(resamples=100, curve=(2,), curve_training=True, robustness=0, explanations=0)
    inputs = (assessment, dataset, contenders["zero"].path)
    with pytest.raises(InputError, match="curve_training needs the recipe's training and strategies"):
        diagnose(*inputs, evaluation=section)
    training = Training(epochs=1, batch_size=8, augmentation="none")
    found = diagnose(*inputs, evaluation=section, training=training, strategies=[{"name": "zero", "transfer": "zero"}])
    trained = {each.name: each.kind for each in found.curve.series if each.trained}
    assert trained == {"zero, trained": "transfer", "scratch, trained": "baseline"}
    assert all(0 <= score <= 1 for each in found.curve.series for point in each.points for score in point.scores)


def test_a_grey_source_of_a_target_in_colour_is_found(assessment, contenders, dataset, monkeypatch):
    section = Evaluation(resamples=100, curve=(), robustness=0, explanations=0)
    assert diagnose(assessment, dataset, contenders["zero"].path, evaluation=section).unseen is None
    monkeypatch.setattr(type(dataset), "given", property(lambda _: ImageInput(size=16, channels=3)))
    found = diagnose(assessment, dataset, contenders["zero"].path, evaluation=section)
    assert found.unseen.startswith(
        "Of pictures like the target's the source did not see their colour, as it reads grey"
    )
    assert "strategies that train its first layer learn it" in found.unseen


def test_a_source_that_cannot_see_all_of_the_target_is_found(assessment, contenders, dataset, monkeypatch):
    section = Evaluation(resamples=100, curve=(), robustness=0, explanations=0)
    monkeypatch.setattr(type(dataset.kind), "lost", lambda *given: "their colour, as it reads grey")
    found = diagnose(assessment, dataset, contenders["zero"].path, evaluation=section)
    assert found.unseen.startswith(
        "Of the target's pictures the source does not see their colour, as it reads grey, and"
    )
    assert "neither do strategies and scratch" in found.unseen


def test_the_operations_of_a_model_are_counted_where_it_lies(contenders, dataset):
    bundle = ModelBundle.load(contenders["scratch"].path)
    counted = epoch_flops(bundle, dataset)
    assert counted > 0
    # Of all devices but the CPU the one that every machine has.
    bundle.network.to("meta")
    assert epoch_flops(bundle, dataset) == counted


@pytest.mark.parametrize(("affordable", "count"), [(1e12, 2), (1.0, 0)])
def test_the_curve_trains_by_itself_where_that_takes_seconds(
    affordable, count, assessment, contenders, dataset, monkeypatch
):
    monkeypatch.setattr("headstart.judging.diagnostics._AFFORDABLE", affordable)
    section = Evaluation(resamples=100, curve=(2,), robustness=0, explanations=0)
    recipe = {
        "training": Training(epochs=1, batch_size=8, augmentation="none"),
        "strategies": [{"name": "zero", "transfer": "zero"}],
    }
    found = diagnose(assessment, dataset, contenders["zero"].path, evaluation=section, **recipe)
    assert sum(each.trained for each in found.curve.series) == count


def test_the_report_gives_verdict_lineage_and_how_to_do_it_again(assessment, looked, dataset):
    ranking = [{"source": "models:/digits-source/1#sha256=12", "probe": 0.913, "probe_error": 0.021}]
    source = {"source": ranking[0]["source"], "digest": "sha256:12", "ranking": ranking}
    page = report(
        assessment, looked, dataset, experiment="digits", source=source, run_id="1a2b3c", tracking_uri="http://m:5"
    )
    for expected in (
        "zero loses",
        dataset.digest,
        "models:/digits-source/1",
        '<td class="number">0.913 <span class="interval">0.871 to 0.955',
        "1a2b3c",
        "http://m:5",
    ):
        assert expected in page
    assert ">models:/digits-source/1<" in page
    counts = dataset.counts
    assert f"{counts['train']} / {counts['val']} / {counts['test']}" in page
