"""A number as the target: learned, compared in its unit, given with an interval, refused where classes are meant."""

import copy
import json
import re
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import yaml

from headstart.data.dataset import Dataset
from headstart.data.folds import stratified_folds
from headstart.data.prepare import prepare
from headstart.data.reference import check
from headstart.data.section import Data
from headstart.data.strata import strata
from headstart.data.subsets import spread_out
from headstart.errors import InputError
from headstart.features.number_heads import best_number_head, first_component
from headstart.judging.combination import combined, trained_again
from headstart.judging.contenders import Contender
from headstart.judging.diagnostics import diagnose, headline_facts
from headstart.judging.headline import Findings, intervals_miss
from headstart.judging.measurement import measure
from headstart.judging.monitoring import features_to_keep, monitor, observe, observe_kept
from headstart.judging.number_diagnostics import diagnose_numbers, number_intervals
from headstart.judging.pairing import stored_pair
from headstart.judging.report import glossary
from headstart.judging.report.page import report
from headstart.judging.section import Evaluation
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.metrics.intervals import Interval
from headstart.metrics.predictions import read_predictions
from headstart.metrics.significance import paired_p
from headstart.metrics.tally import score
from headstart.metrics.task import TASKS
from headstart.models.bundle import ModelBundle
from headstart.models.exporting import export as export_as
from headstart.models.onnx import export
from headstart.models.prediction import answers
from headstart.recipe.draft import draft_recipe
from headstart.recipe.recipe import Recipe
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.trained import predictions_of
from headstart_pipelines.check import check as check_recipe
from headstart_pipelines.resolve import resolve
from tests.models.schema import validate
from tests.regression.conftest import TRAINING
from tests.regression.discs import SIZE, write_discs

REGRESSION = TASKS["regression"]


# The data


def test_labels_are_numbers_and_every_split_has_its_share_of_all_ranges(dataset):
    assert (dataset.task, dataset.classes) == ("regression", ("value",))
    labels = {name: dataset.split(name).labels for name in ("train", "val", "test")}
    assert all(each.dtype == np.float64 for each in labels.values())
    assert len(labels["train"]) + len(labels["val"]) == 50
    spread = np.bincount(strata(labels["test"]))
    assert len(spread) == 10
    assert spread.min() >= 5
    names = dataset.manifest["strata"]["names"]
    assert sum(map(sum, dataset.manifest["strata"]["counts"].values())) == 160
    assert names[0].startswith("3.")
    assert "12." in names[-1]
    page = (dataset.path / "report.html").read_text()
    assert "a number each" in page
    assert "label budget" in page


@pytest.mark.parametrize(
    ("label", "more", "reason"),
    [
        ("large", {}, r"the label of 007\.png is 'large', and regression learns numbers"),
        ("nan", {}, "the label of 007.png is 'nan'"),
        ("12,5", {}, "the label of 007.png is '12,5'"),
        (None, {"labels_per_class": 3}, "labels_per_class has no meaning with task: regression.*label_budget"),
        (None, {"task": "auto", "labels_per_class": 3}, "labels_per_class has no meaning with task: regression"),
        (None, {"task": "single_label", "label_budget": 9}, "label_budget is for task: regression"),
    ],
)
def test_what_is_no_number_or_no_budget_of_numbers_is_refused(tmp_path, label, more, reason):
    table = write_discs(tmp_path / "discs", 30, seed=0)
    lines = table.read_text().splitlines()
    if label:
        lines[8] = f'007.png,"{label}"'
    table.write_text("\n".join(lines))

    with pytest.raises(InputError, match=reason):
        prepare(Data.of({"uri": str(table), "size": SIZE, "task": "regression", **more}), tmp_path / "packed")

    assert not (tmp_path / "packed").exists()


def test_measured_numbers_are_learned_as_such_where_nobody_says_so(tmp_path):
    table = write_discs(tmp_path / "discs", 30, seed=0)

    named, seen = (
        prepare(Data.of({"uri": str(table), "size": SIZE, "task": task, "label_budget": 20}), tmp_path / task)
        for task in ("regression", "auto")
    )

    assert seen.task == "regression"
    assert seen.digest == named.digest
    assert seen.manifest["settings"] == named.manifest["settings"]


def test_grades_are_classes_and_it_is_said_that_their_order_is_not_learned(tmp_path):
    table = write_discs(tmp_path / "discs", 30, seed=0)
    rows = table.read_text().splitlines()[1:]
    table.write_text("\n".join(["path,label", *(f"{row.split(',')[0]},{1 + at % 4}" for at, row in enumerate(rows))]))

    found = check(str(table))

    assert found.task == "single_label"
    assert "whole numbers 1 to 4" in found.looks
    assert "Say task: regression" in found.looks
    # Folders of digits, and two classes, are not said to have an order.
    for at, row in enumerate(rows):
        name = row.split(",")[0]
        (tmp_path / "folders" / str(1 + at % 4)).mkdir(parents=True, exist_ok=True)
        (tmp_path / "discs" / name).rename(tmp_path / "folders" / str(1 + at % 4) / name)
    assert check(str(tmp_path / "folders")).looks == ""


def test_equal_labels_are_nothing_to_learn(tmp_path):
    table = write_discs(tmp_path / "discs", 12, seed=0)
    rows = [f"{number:03}.png,7.0" for number in range(12)]
    table.write_text("\n".join(["path,label", *rows]))

    with pytest.raises(InputError, match=r"all labels are 7\.0; there is nothing to learn"):
        prepare(Data.of({"uri": str(table), "size": SIZE, "task": "regression"}), tmp_path / "packed")


def test_folds_have_numbers_of_every_range():
    labels = np.random.default_rng(0).lognormal(size=100)

    for _, held_out in stratified_folds(labels, seed=0):
        assert len(held_out) == 20
        assert np.bincount(strata(labels)[held_out], minlength=10).tolist() == [2] * 10


# Metrics


def test_metrics_are_those_of_scikit_learn():
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

    generator = np.random.default_rng(0)
    labels = generator.normal(1e6, 3, 200)
    predicted = labels + generator.normal(0, 1, 200)

    assert score("mae", labels, predicted, 1) == pytest.approx(mean_absolute_error(labels, predicted))
    assert score("rmse", labels, predicted, 1) == pytest.approx(root_mean_squared_error(labels, predicted))
    assert score("r2", labels, predicted, 1) == pytest.approx(r2_score(labels, predicted))


@pytest.mark.parametrize("groups", [None, np.arange(300) // 3])
@pytest.mark.parametrize("metric", ["mae", "rmse", "r2"])
def test_intervals_hold_the_truth_as_often_as_they_say(metric, groups):
    generator = np.random.default_rng(1)
    truth = {"mae": np.sqrt(2 / np.pi), "rmse": 1.0, "r2": 1 - 1 / 5}[metric]
    held = 0
    for trial in range(60):
        labels = generator.normal(0, 2, 300) + generator.normal(0, 1, 300)
        predicted = labels + (
            generator.normal(0, 1, 100)[groups] if groups is not None else generator.normal(0, 1, 300)
        )
        found = bootstrap_interval(metric, labels, predicted, 1, resamples=400, seed=trial, groups=groups)
        assert found.low <= found.value <= found.high
        held += found.low <= truth <= found.high
    assert 51 <= held <= 60


def test_a_gain_is_by_how_much_less_the_error_is_and_nothing_gains_nothing():
    generator = np.random.default_rng(2)
    labels = generator.normal(size=200)
    good, bad = labels + generator.normal(0, 0.5, 200), labels + generator.normal(0, 1.0, 200)

    gain = paired_bootstrap_gain("mae", labels, good, bad, 1)
    assert gain.value == pytest.approx(np.abs(bad - labels).mean() - np.abs(good - labels).mean())
    assert gain.low > 0
    same = paired_bootstrap_gain("mae", labels, good, good, 1)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert paired_p(labels, good, bad) < 1e-6
    assert paired_p(labels, good, good) == 1.0
    assert paired_bootstrap_gain("r2", labels, good, bad, 1).low > 0


def test_a_margin_holds_nine_of_ten_new_numbers():
    generator = np.random.default_rng(3)
    shares = []
    for _ in range(200):
        errors = generator.standard_t(3, size=1040)
        margin = REGRESSION.calibrated(np.zeros((40, 1)), errors[:40]).margin
        shares.append(float(np.mean(np.abs(errors[40:]) <= margin)))
    assert 0.89 <= np.mean(shares) <= 0.93


def test_a_margin_of_groups_holds_nine_of_ten_numbers_of_new_groups():
    generator = np.random.default_rng(4)
    groups, held, plain = np.repeat(np.arange(20), 15).astype(str), [], []
    for _ in range(200):
        # Each group has its own size of errors, and the 20 that are held out are not those of new samples.
        errors = generator.normal(size=(220, 15)) * generator.lognormal(0, 0.8, size=(220, 1))
        known, new = errors[:20].ravel(), np.abs(errors[20:])
        margins = [REGRESSION.calibrated(np.zeros((300, 1)), known, of).margin for of in (groups, None)]
        held.append(float(np.mean(new <= margins[0])))
        plain.append(float(np.mean(new <= margins[1])))
    assert 0.9 <= np.mean(held) <= 0.94
    assert np.mean(plain) < np.mean(held)


def test_groups_of_one_sample_have_the_margin_of_samples_and_a_large_group_counts_as_one():
    errors = np.arange(1.0, 31)
    alone = REGRESSION.calibrated(np.zeros((30, 1)), errors).margin
    assert alone == 28.0
    assert REGRESSION.calibrated(np.zeros((30, 1)), errors, np.array([""] * 30)).margin == alone
    # The largest errors are all of one group of the twenty, which has a 21st of the weight.
    groups = np.array([str(min(each, 19)) for each in range(30)])
    assert REGRESSION.calibrated(np.zeros((30, 1)), errors, groups).margin == 19.0


def test_fewer_than_nine_held_out_samples_or_groups_promise_nothing():
    generator = np.random.default_rng(5)
    for count in (1, 8):
        assert REGRESSION.calibrated(np.zeros((count, 1)), generator.normal(size=count)).margin is None
    assert REGRESSION.calibrated(np.zeros((9, 1)), np.arange(9.0)).margin == 8.0
    eight = np.repeat(list("abcdefgh"), 10)
    found = REGRESSION.calibrated(np.zeros((80, 1)), generator.normal(size=80), eight)
    assert found.margin is None
    assert found.scale > 0


def test_no_error_at_all_makes_no_model_infinitely_sure():
    found = REGRESSION.calibrated(np.arange(20.0)[:, None], np.arange(20.0))
    assert 0 < found.margin < 1e-3
    assert 0 < found.scale < 1e-3


# Heads


@pytest.mark.parametrize("width", [5, 400])
def test_the_ridge_heads_held_out_numbers_are_those_of_fits_without_their_fold(width):
    generator = np.random.default_rng(4)
    features = generator.normal(size=(60, width)) * generator.uniform(0.1, 10, width)
    labels = features[:, 0] / features[:, 0].std() + generator.normal(0, 0.3, 60)

    fitted = best_number_head(features, labels)

    assert fitted.held_out.tolist() == list(range(60))
    # With few features the head explains nearly all of what can be; with many it is better than none.
    error = float(np.mean((fitted.logits[:, 0] - labels) ** 2))
    assert error < (0.15 if width == 5 else float(labels.var()))
    shown = fitted.head.logits(features.astype(np.float32))[:, 0]
    assert np.corrcoef(shown, labels)[0, 1] > 0.9


def test_a_constant_feature_and_few_samples_do_no_harm():
    generator = np.random.default_rng(5)
    features = np.hstack([generator.normal(size=(6, 3)), np.full((6, 1), 7.0)])
    labels = generator.normal(size=6)

    for fit in (best_number_head, first_component):
        assert np.isfinite(fit(features, labels).head.logits(features)).all()
    assert len(best_number_head(features[:1], labels[:1]).held_out) == 0


# Models


def test_strategies_and_baselines_learn_the_number(trained, dataset):
    spread = float(np.abs(dataset.split("test").labels - np.median(dataset.split("test").labels)).mean())
    errors = {}
    for name, each in trained.items():
        found = each.bundle.predict_outputs(dataset.split("test").samples)
        errors[name] = float(np.abs(found[:, 0] - dataset.split("test").labels).mean())
        assert each.held_out.task == "regression"
        assert each.bundle.margin > 0
        assert each.bundle.temperature > 0
        assert each.validation == pytest.approx(score("mae", each.held_out.labels, each.held_out.predicted, 1))
    assert max(errors[name] for name in ("linear_probe", "full", "classical")) < spread / 2


def test_a_bundle_answers_alike_after_it_was_saved_and_in_onnx(trained, dataset, tmp_path):
    for name in ("full", "classical"):
        bundle, samples = trained[name].bundle, dataset.split("test").samples[:9]
        bundle.save(tmp_path / name)
        validate(json.loads((tmp_path / name / "model.json").read_text()))
        loaded = ModelBundle.load(tmp_path / name)
        assert (loaded.task, loaded.margin, loaded.classes) == ("regression", bundle.margin, ("value",))
        np.testing.assert_array_equal(loaded.predict_outputs(samples), bundle.predict_outputs(samples))
    assert loaded.answer == "a number"
    table = answers(loaded, loaded.predict_outputs(samples))
    assert list(table) == ["value", "low", "high"]
    np.testing.assert_allclose(table["high"] - table["value"], bundle.margin, rtol=1e-5)

    export(trained["full"].bundle, tmp_path / "model.onnx", digest="sha256:0")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (numbers,) = session.run(["numbers"], {"images": samples})
    np.testing.assert_allclose(numbers, trained["full"].bundle.predict_outputs(samples), rtol=1e-4)
    with pytest.raises(InputError, match="holds classifiers, and this model's task is regression; choose onnx"):
        export_as(trained["full"].bundle, tmp_path / "hf", format="hf", digest="sha256:0")


@pytest.mark.parametrize("unit", [1.0, 1e5])
def test_the_export_is_compared_in_the_unit_of_the_number(trained, tmp_path, unit):
    network = copy.deepcopy(trained["full"].bundle.network)
    network.measure(10 * unit, unit)
    # Nothing was held out for it.
    bundle = replace(trained["full"].bundle, network=network, temperature=1.0, margin=None)

    difference = export(bundle, tmp_path / "model.onnx", digest="sha256:0")

    assert difference <= 1e-5 * unit * 10


def test_a_margin_that_is_no_number_is_refused(trained, tmp_path):
    trained["full"].bundle.save(tmp_path / "bundle")
    path = tmp_path / "bundle" / "model.json"
    for wrong in ("wide", -1.0, True):
        description = json.loads(path.read_text()) | {"margin": wrong}
        path.write_text(json.dumps(description))
        from headstart.storage.sums import write_sums

        write_sums(tmp_path / "bundle", ("model.json", "model.safetensors"))
        with pytest.raises(InputError, match="no usable margin"):
            ModelBundle.load(tmp_path / "bundle")


def test_a_start_that_is_kept_has_the_margin_of_the_target_and_not_of_the_source(trained, source, dataset, context):
    strategy = Strategy.of(
        {"name": "still", "transfer": "full", "schedule": "constant", "learning_rate": 1e-12}, at="s"
    )

    still = transfer(source, dataset, strategy, training=TRAINING, context=context).bundle

    assert still.provenance["kept_epoch"] == 0
    assert still.margin == pytest.approx(trained["zero"].bundle.margin, rel=1e-3)
    assert still.margin != source.margin


# The judgement


def test_the_verdict_is_in_the_unit_of_the_number_and_an_error_that_is_less_is_better(assessment):
    board = assessment.leaderboard
    values = [entry.value for entry in board.entries]
    assert (board.metric, values) == ("mae", sorted(values))
    assert {each.baseline for each in board.comparisons} == {"scratch", "classical", "median"}
    assert "MAE than" in board.sentence
    for entry in board.entries:
        assert entry.accuracy is entry.macro_f1 is None
        assert set(entry.second) == {"r2"}
        if entry.gain_over_best is not None:
            best = next(each for each in board.entries if each.strategy == board.best_baseline)
            assert entry.gain_over_best == pytest.approx(best.value - entry.value)
    assert assessment.confusion == ([], [])
    figures = assessment.figures(board.chosen.strategy)
    assert {"test/mae", "test/mae_low", "test/rmse", "test/r2", "test/coverage", "test/margin"} <= figures.keys()
    assert not {"test/accuracy", "test/ece"} & figures.keys()


def page_of(assessment, found, dataset):
    """The report with its headline, its words with a space between them."""
    page = report(
        assessment.with_facts(headline_facts(assessment, found, dataset)),
        found,
        dataset,
        experiment="discs",
        source={"source": "models:/discs-source/1", "digest": "sha256:0"},
        run_id="1",
        tracking_uri="sqlite:///mlflow.db",
    )
    return " ".join(page.split())


def test_the_page_shows_errors_by_range_and_the_promised_interval(assessment, dataset, source_path):
    found = diagnose(assessment, dataset, source_path, evaluation=Evaluation(resamples=200))
    assert set(found.intervals) == {"mae", "rmse", "r2", "coverage"}
    assert sum(each.items for each in found.numbers.ranges) == dataset.counts["test"]
    json.loads(found.to_json())
    page = page_of(assessment, found, dataset)
    assert "How far" in page
    assert "should hold 90% of new samples" in page
    # All labels were held out once.
    assert found.numbers.held_out == dataset.counts["train"] + dataset.counts["val"]
    assert f"found by {found.numbers.held_out} samples" in page
    assert "Student's t-test" in page
    for absent in ("Confusion matrix", "Reliability", "accuracy"):
        assert absent not in page.partition("<body")[2].replace(glossary.TERMS["temperature"], "")
    for name in ("R²", "coverage"):
        assert glossary.TERMS[name] in page


def test_intervals_that_hold_less_than_chance_explains_are_named_beside_the_verdict(assessment):
    predictions = assessment.predicted(assessment.chosen.strategy)

    def said(covered, held_out):
        coverage = Interval(covered, covered - 0.04, covered + 0.04)
        return intervals_miss(Findings(assessment.leaderboard, predictions, None, {"coverage": coverage}, held_out))

    assert "hold 67% of the test items [63%, 71%]; chance alone, with 60 held-out samples, goes down to 82%" in (
        said(0.67, 60)
    )
    # Of so few it may be a matter of chance, and of many it is not.
    assert said(0.82, 60) is None
    assert said(0.82, 400)
    assert said(0.97, 60) is None


def test_a_model_without_intervals_is_judged_and_the_page_says_why_it_has_none(assessment, dataset, source_path):
    predictions = assessment.predicted(assessment.chosen.strategy)
    untold = replace(predictions, outputs=predictions.outputs * np.array([1.0, 1.0, np.nan]))
    found = diagnose(assessment, dataset, source_path, evaluation=Evaluation(resamples=200))
    found = replace(
        found,
        intervals=number_intervals(untold, resamples=200),
        numbers=diagnose_numbers(untold, None, None, confidence=0.95),
    )

    page = page_of(assessment, found, dataset)

    json.loads(found.to_json())
    assert "Too few samples, or groups of them, were held out to give predictions an interval: nine at least." in page
    assert "in interval" not in page


def test_models_that_tie_are_averaged_and_their_margins_too(trained, source, dataset, context, tmp_path):
    again = transfer(
        source,
        dataset,
        Strategy.of({"name": "again", "transfer": "full"}, at="s"),
        training=TRAINING,
        context=replace(context, seed=1),
    )
    # What was held out does not tell one from the other: each is as far off, on the other side.
    full = trained["full"].held_out
    mirrored = full.outputs.copy()
    mirrored[:, 0] = 2 * full.labels - full.predicted
    models = {"full": trained["full"], "again": replace(again, held_out=replace(full, outputs=mirrored))}
    contenders = [
        Contender(name, kind, each.save(tmp_path / name, dataset), each.validation, 1.0, "")
        for (name, each), kind in zip(models.items(), ("transfer", "baseline"), strict=True)
    ]

    (found,) = combined(contenders, Evaluation(metric="mae"), tmp_path)

    bundle, samples = ModelBundle.load(found.path), dataset.split("test").samples
    shares = {member["strategy"]: member["weight"] for member in bundle.provenance["members"]}
    outputs = {name: each.bundle.predict_outputs(samples) for name, each in models.items()}
    expected = sum(shares[name] * outputs[name][:, 0] for name in models)
    np.testing.assert_allclose(bundle.predict_outputs(samples)[:, 0], expected, rtol=1e-5)
    assert bundle.margin == pytest.approx(sum(shares[name] * models[name].bundle.margin for name in models))
    assert found.held_out.task == "regression"
    export(bundle, tmp_path / "model.onnx", digest="sha256:0")
    own = {name: predictions_of(each.bundle, dataset.split("test")) for name, each in models.items()}
    # Had its members' other trainings come to the same, so would the average.
    (again,) = trained_again(bundle, own, {name: [each] for name, each in own.items()})
    np.testing.assert_allclose(again, bundle.kind.predicted(bundle.predict_outputs(samples)), rtol=1e-4, atol=1e-5)


def test_predictions_are_read_back_and_paired_with_those_of_another_model(assessment, dataset):
    one, other = (read_predictions(assessment.predictions / f"{name}.parquet") for name in ("full", "scratch"))
    test = dataset.split("test")
    np.testing.assert_array_equal(one.labels, test.labels)
    assert one.task == "regression"
    assert one.outputs.shape == (len(test.labels), 3)

    pair = stored_pair(one, other)

    np.testing.assert_allclose(np.sort(pair.ours), np.sort(one.predicted))


def test_new_labelled_samples_measure_it_and_new_ones_are_compared_with_the_test_s(trained, dataset, tmp_path):
    table = write_discs(tmp_path / "new", 40, seed=9, noise=20.0, inverted=True)
    bundle = trained["linear_probe"].bundle

    found = measure(bundle, str(table), metric="mae")

    assert set(found.figures) == {"mae", "rmse", "r2", "coverage"}
    assert (found.mistakes, found.classes) == ([], ())
    assert list(found.table) == ["path", "label", "predicted", "low", "high"]
    assert found.value.value == pytest.approx(np.abs(found.table["predicted"] - found.table["label"]).mean())
    with pytest.raises(InputError, match="accuracy is not for a model of the task regression; choose one of mae"):
        measure(bundle, str(table), metric="accuracy")
    test, new = dataset.split("test"), observe(bundle, str(table))
    np.testing.assert_allclose(np.abs(new.outputs[:, 0] - new.labels).mean(), found.value.value, rtol=1e-4)
    before = observe_kept(bundle, features_to_keep(bundle, dataset, None), test.labels)
    np.testing.assert_allclose(before.outputs, bundle.predict_outputs(test.samples), rtol=1e-4)
    assert monitor(before, new, bundle.classes, metric="mae", promised=found.value).measured == found.value
    table.unlink()
    assert observe(bundle, str(table.parent)).labels is None


# The recipe


@pytest.mark.parametrize(
    ("task", "evaluation", "reason"),
    [
        ("regression", {"metric": "accuracy"}, "accuracy is for classes"),
        ("regression", {"metric": "macro_f1"}, "macro_f1 is for classes.*choose one of mae, r2, rmse"),
        ("auto", {"metric": "rmse"}, "rmse is for numbers; say target.data.task: regression"),
        ("auto", {"min_gain": 2.0}, "accuracy is a share"),
    ],
)
def test_a_metric_of_another_task_is_refused_before_anything_runs(task, evaluation, reason):
    recipe = {"name": "r", "source": {"data": {"uri": "s"}}, "target": {"data": {"uri": "t", "task": task}}}

    with pytest.raises(InputError, match=reason):
        Recipe.of({**recipe, "evaluation": evaluation}, at="recipe")

    kept = Recipe.of({**recipe, "evaluation": {"min_gain": 2.0} if task == "regression" else {}}, at="recipe")
    assert kept.evaluation.metric == ("mae" if task == "regression" else "accuracy")


@pytest.mark.parametrize(
    ("task", "evaluation", "reason"),
    [
        ("regression", {"explanations": 3}, "evaluation.explanations: has no meaning with target.data.task regression"),
        ("multi_label", {"curve": [5, 10]}, "evaluation.curve: .* labels a class; remove it"),
    ],
)
def test_what_is_judged_of_classes_alone_is_refused_where_it_is_asked_for(task, evaluation, reason):
    recipe = {"name": "r", "source": {"data": {"uri": "s"}}, "target": {"data": {"uri": "t", "task": task}}}

    with pytest.raises(InputError, match=reason):
        Recipe.of({**recipe, "evaluation": evaluation}, at="recipe")

    # The defaults, which a stored recipe has in full, and none at all are no wish.
    stored = Recipe.of({**recipe, "evaluation": {"curve": [], "robustness": 0}}, at="recipe").model_dump(mode="json")
    assert Recipe.of(stored, at="recipe").evaluation.robustness == 0
    whole = Recipe.of(recipe, at="recipe").model_dump(mode="json")
    assert Recipe.of(whole, at="recipe").evaluation.explanations == 8


@pytest.mark.parametrize("evaluation", [{"curve": [5]}, {"metric": "macro_f1"}, {"explanations": 3}])
def test_what_the_task_lacks_that_labels_look_like_is_refused_as_where_it_is_named(discs, tmp_path, evaluation):
    table = {"data": {"uri": str(discs / "target" / "labels.csv"), "size": SIZE}}
    asked = Recipe.of({"name": "r", "source": table, "target": table, "evaluation": evaluation}, at="recipe")
    plain = Recipe.of({"name": "r", "source": table, "target": table}, at="recipe")
    (key,) = evaluation

    for tried in (lambda recipe: list(check_recipe(recipe, tmp_path)), resolve):
        with pytest.raises(InputError, match=f"^evaluation.{key}: .*target.data.task.* regression.*Labels such as"):
            tried(asked)
        tried(plain)
    assert plain.evaluation.for_task("regression").metric == "mae"


def test_numbers_are_corrupted_where_the_recipe_says_that_they_stay_the_same(assessment, dataset, source_path):
    left_open = diagnose(assessment, dataset, source_path, evaluation=Evaluation(metric="mae", resamples=100))
    assert left_open.robustness is None

    section = Evaluation(metric="mae", resamples=100, robustness=20)
    found = diagnose(assessment, dataset, source_path, evaluation=section)

    assert (found.robustness.metric, found.robustness.items, found.robustness.shares) == ("mae", 20, ())
    predicted = assessment.predicted(assessment.chosen.strategy)
    rows = spread_out(predicted.labels, 20)
    error = np.abs(predicted.predicted[rows] - predicted.labels[rows]).mean()
    assert found.robustness.clean.value == pytest.approx(error, rel=1e-4)
    assert found.robustness.mean > found.robustness.clean.value
    json.loads(found.to_json())
    page = page_of(assessment, found, dataset)
    assert f"MAE of {assessment.chosen.strategy} on 20 test items, every range of the numbers with its share" in page
    # The corruption that costs most comes first, and no colour is out of its scale.
    told = page.partition("Under corruption")[2]
    heats = [float(each) for each in re.findall(r"--heat: ([-.0-9]+)", told)]
    worst = max(found.robustness.corrupted, key=lambda row: row.values[-1].value)
    assert told.partition("<tbody>")[2].strip().startswith(f"<tr><td>{worst.corruption}")
    assert all(0 <= each <= 0.55 for each in heats)


def test_init_writes_a_recipe_for_a_table_of_numbers(discs):
    text = draft_recipe(str(discs / "target" / "labels.csv"), str(discs / "source" / "labels.csv")).text

    assert "# 160 pictures with a number each" in text
    recipe = Recipe.of(yaml.safe_load(text), at="recipe")
    assert recipe.target.data.task == recipe.source.data.task == "regression"
    assert recipe.evaluation.metric == "mae"


def test_a_dataset_of_classes_stays_one_of_classes(tmp_path):
    from tests.judging.conftest import digits, write_folder

    images, labels = digits()
    write_folder(images[:60], labels[:60] % 2, tmp_path / "pictures")
    packed: Dataset = prepare(Data.of({"uri": str(tmp_path / "pictures"), "size": SIZE}), tmp_path / "packed")

    assert packed.task == "single_label"
    assert "task" not in packed.manifest
