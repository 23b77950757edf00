"""Several labels a sample: learned, compared, given from a threshold on, refused where one class is meant."""

import json
from dataclasses import replace

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from headstart.data.folded import further_folds
from headstart.data.folds import stratified_folds
from headstart.data.section import Data
from headstart.data.several import rarest
from headstart.errors import InputError
from headstart.features.label_heads import best_label_head, label_means
from headstart.judging.combination import combined, trained_again
from headstart.judging.contenders import Contender
from headstart.judging.diagnostics import diagnose, headline_facts
from headstart.judging.measurement import measure
from headstart.judging.monitoring import features_to_keep, monitor, observe, observe_kept
from headstart.judging.pairing import evaluated_pair, stored_pair
from headstart.judging.report.page import report
from headstart.judging.section import Evaluation
from headstart.judging.source_evaluation import evaluate_source
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.gains import paired_bootstrap_gain
from headstart.metrics.predictions import read_predictions
from headstart.metrics.significance import paired_p
from headstart.metrics.tally import score
from headstart.metrics.task import TASKS
from headstart.models.bundle import ModelBundle
from headstart.models.exporting import export as export_as
from headstart.models.onnx import export
from headstart.models.prediction import answers, in_short
from headstart.recipe.draft import draft_recipe
from headstart.recipe.recipe import Recipe
from headstart.strategies.section import Strategy
from headstart.strategies.transfer import transfer
from headstart.training.trained import predictions_of
from tests.models.schema import validate
from tests.multi_label.conftest import NAMES, TRAINING, packed

MULTI_LABEL = TASKS["multi_label"]
MAP = "mean_average_precision"


# The data


def write(folder, labels):
    """Pictures of noise with these labels in the form of a table; return its path."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(len(labels)):
        Image.fromarray(generator.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{number:03}.png")
    (folder / "labels.csv").write_text(
        "\n".join(["path,label", *(f'{number:03}.png,"{label}"' for number, label in enumerate(labels))])
    )
    return folder / "labels.csv"


def test_every_split_and_budget_has_some_of_a_rare_label(tmp_path):
    labels = ["rare;common"] * 5 + ["common"] * 60 + ["other; common"] * 30 + ["none"] * 30

    dataset = packed(write(tmp_path / "data", labels), tmp_path / "packed", label_budget=20)

    assert dataset.classes == ("common", "other", "rare")
    assert dataset.counts["train"] + dataset.counts["val"] == 20
    for name in ("train", "val", "test"):
        has = dataset.split(name).labels == 1
        assert has.dtype == bool
        assert has[:, 2].any(), name
        assert dataset.manifest["splits"][name]["class_counts"] == has.sum(axis=0).tolist()
    assert sum(dataset.manifest["splits"][each]["class_counts"][2] for each in dataset.manifest["splits"]) == 5
    page = " ".join((dataset.path / "report.html").read_text().split())
    assert "labels: several each" in page
    assert "label budget" in page
    for fold in further_folds(dataset):
        assert fold.split("train").labels.shape[1] == 3


def test_a_label_that_is_not_known_of_a_sample_is_neither_there_nor_absent(tmp_path):
    labels = ["a;?b", "b", "a; b;a", "none", "?a"] * 8

    dataset = packed(write(tmp_path / "data", labels), tmp_path / "packed")

    of_path = {
        path: row.tolist()
        for name in ("train", "val", "test")
        for path, row in zip(dataset.split(name).paths, dataset.split(name).labels, strict=True)
    }
    expected = [[1, -1], [0, 1], [1, 1], [0, 0], [-1, 0]]
    assert [of_path[f"{number:03}.png"] for number in range(5)] == expected


def test_lists_in_parquet_and_folders_say_the_same_as_text(tmp_path):
    labels = ["a;b", "none", "b", "a"] * 8
    table = write(tmp_path / "text", labels)
    lists = [[] if label == "none" else label.split(";") for label in labels]
    paths = [f"{number:03}.png" for number in range(len(labels))]
    pq.write_table(pa.table({"path": paths, "label": lists}), table.with_name("labels.parquet"))
    for path, label in zip(paths, labels, strict=True):
        (tmp_path / "folders" / label).mkdir(parents=True, exist_ok=True)
        (tmp_path / "folders" / label / path).write_bytes((tmp_path / "text" / path).read_bytes())

    text, parquet = (packed(each, tmp_path / each.suffix[1:]) for each in (table, table.with_name("labels.parquet")))
    folders = packed(tmp_path / "folders", tmp_path / "from_folders")

    assert text.digest == parquet.digest
    for name in ("train", "val", "test"):
        ours, theirs = text.split(name), folders.split(name)
        order, other = np.argsort(ours.ids), np.argsort(theirs.ids)
        np.testing.assert_array_equal(ours.labels[order], theirs.labels[other])


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (["a;b", ";"] * 9, r"the label of 001\.png is missing; write none for a sample with none of the labels"),
        (["a;b", "none;a"] * 9, "'none;a' names labels and 'none'"),
        (["a;b", "a;?a"] * 9, "says both that 'a' is there and that nobody knows"),
        (["a;b", "?"] * 9, "has a '\\?' without a label's name"),
        (["a;b", "a;?c"] * 9, "no sample has the label 'c'"),
        (["none"] * 18, "no sample has any label; there is nothing to learn"),
    ],
)
def test_labels_that_say_nothing_or_contradict_themselves_are_refused(tmp_path, labels, reason):
    with pytest.raises(InputError, match=reason):
        packed(write(tmp_path / "data", labels), tmp_path / "packed", max_refused=0.0)

    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"labels_per_class": 3}, "labels_per_class has no meaning with task: multi_label.*label_budget"),
        ({"labels": "none"}, "labels: none has no meaning with task: multi_label"),
    ],
)
def test_settings_of_classes_are_refused(more, reason):
    with pytest.raises(InputError, match=reason):
        Data.of({"uri": "x", "task": "multi_label", **more}, at="data")


def test_labels_that_look_like_several_are_learned_as_such(tmp_path):
    table = write(tmp_path / "data", ["circle;red", "circle;blue", "square;red", "square;blue"] * 8)

    assert packed(table, tmp_path / "packed", task="auto").classes == ("blue", "circle", "red", "square")

    text = draft_recipe(str(table), str(table)).text
    recipe = Recipe.of(yaml.safe_load(text), at="recipe")
    assert recipe.target.data.task == "multi_label"
    assert recipe.evaluation.metric == MAP


def test_sets_of_labels_that_a_given_split_lacks_are_told_from_classes_too(tmp_path):
    table = write(tmp_path / "data", ["a;b", "a;c", "b;c", "a"] * 5)
    header, *rows = table.read_text().splitlines()
    # No test sample has the set a;b.
    splits = ["train" if number < 12 or number % 4 == 0 else "test" for number in range(len(rows))]
    lines = [f"{header},split", *(f"{row},{split}" for row, split in zip(rows, splits, strict=True))]
    table.write_text("\n".join(lines))

    assert packed(table, tmp_path / "several", task="auto").classes == ("a", "b", "c")
    with pytest.raises(InputError, match=r"Class 'a;b' .* has no samples in test/"):
        packed(table, tmp_path / "packed", task="single_label")

    assert "task: multi_label" in draft_recipe(str(table), str(table)).text


def test_folds_have_some_of_every_label():
    generator = np.random.default_rng(0)
    labels = (generator.random((200, 3)) < [0.5, 0.2, 0.06]).astype(np.int8)

    for _, held_out in stratified_folds(labels, seed=0):
        assert (labels[held_out] == 1).any(axis=0).all()
    assert set(rarest(labels)[labels[:, 2] == 1]) == {2}
    assert set(rarest(labels)[~labels.any(axis=1)]) == {3}


# Metrics


def test_metrics_are_those_of_scikit_learn_over_the_labels_that_are_known(marks):
    from sklearn.metrics import average_precision_score, f1_score

    labels, scores = marks
    known = [labels[:, k] >= 0 for k in range(5)]

    areas = [average_precision_score(labels[r, k] == 1, scores[r, k]) for k, r in enumerate(known)]
    assert score(MAP, labels, scores, 5) == pytest.approx(np.mean(areas))
    each = [f1_score(labels[r, k] == 1, scores[r, k] >= 0) for k, r in enumerate(known)]
    assert score("macro_f1", labels, scores, 5) == pytest.approx(np.mean(each))
    micro = f1_score(labels[labels >= 0] == 1, scores[labels >= 0] >= 0)
    assert score("micro_f1", labels, scores, 5) == pytest.approx(micro)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("metric", [MAP, "macro_f1", "micro_f1"])
def test_intervals_hold_the_truth_as_often_as_they_say(metric, grouped):
    generator = np.random.default_rng(1)
    shares = np.array([0.4, 0.2])

    def drawn(count, groups):
        labels = (generator.random((groups, 2)) < shares)[np.arange(count) % groups].astype(np.int8)
        noise = generator.normal(size=(groups, 2))[np.arange(count) % groups]
        return labels, noise + 1.5 * labels - 0.7

    truth = score(metric, *drawn(200_000, 200_000), 2)
    held = 0
    for trial in range(60):
        count, number = 300, 100 if grouped else 300
        labels, scores = drawn(count, number)
        groups = np.arange(count) % number if grouped else None
        found = bootstrap_interval(metric, labels, scores, 2, resamples=300, seed=trial, groups=groups)
        assert found.low <= found.value <= found.high
        held += found.low <= truth <= found.high
    assert held >= 52


def test_a_gain_is_told_from_noise_and_the_same_model_gains_nothing(marks):
    labels, scores = marks
    worse = scores + np.random.default_rng(3).normal(0, 2, scores.shape)

    gain = paired_bootstrap_gain(MAP, labels, scores, worse, 5)
    assert gain.value == pytest.approx(score(MAP, labels, scores, 5) - score(MAP, labels, worse, 5))
    assert gain.low > 0
    same = paired_bootstrap_gain(MAP, labels, scores, scores, 5)
    assert (same.value, same.low, same.high) == (0.0, 0.0, 0.0)
    assert paired_p(labels, scores, worse) < 0.01
    assert paired_p(labels, scores, scores) == 1.0


def test_thresholds_are_those_with_the_best_f1_and_rare_labels_share_one():
    generator = np.random.default_rng(4)
    labels = (generator.random((300, 3)) < [0.3, 0.0, 0.0]).astype(np.int8)
    labels[:3, 1] = labels[3:6, 2] = 1
    logits = generator.normal(size=labels.shape) + 2 * labels - 2

    found = MULTI_LABEL.calibrated(logits, labels)

    outputs = MULTI_LABEL.outputs(logits, found)
    assert outputs.shape == (300, 3, 2)
    chances = outputs[:, :1, 0]
    own = score("macro_f1", labels[:, :1], chances - found.thresholds[0], 1)
    others = [score("macro_f1", labels[:, :1], chances - each, 1) for each in np.linspace(0.01, 0.99, 99)]
    assert own >= max(others)
    assert found.thresholds[1] == found.thresholds[2] != found.thresholds[0]
    assert MULTI_LABEL.calibrated(np.empty((0, 3)), np.empty((0, 3), np.int8)).thresholds == (0.5, 0.5, 0.5)


# Heads


@pytest.mark.parametrize("width", [5, 300])
def test_heads_learn_each_label_from_the_samples_that_it_is_known_of(width):
    generator = np.random.default_rng(5)
    features = generator.normal(size=(120, width)).astype(np.float32)
    labels = (features[:, :3] + generator.normal(0, 0.3, (120, 3)) > [0, 0.5, 1.2]).astype(np.int8)
    hidden = labels.copy()
    hidden[generator.random(labels.shape) < 0.2] = -1

    for fit in (best_label_head, label_means):
        found = fit(features, hidden)
        assert found.held_out.tolist() == list(range(120))
        assert found.logits.shape == (120, 3)
        if width == 5:
            assert score(MAP, labels, found.logits, 3) > 0.85


def test_logistic_heads_are_those_of_scikit_learn():
    from sklearn.linear_model import LogisticRegression

    from headstart.features import label_heads

    generator = np.random.default_rng(6)
    features = generator.normal(size=(80, 6))
    labels = (features[:, :2] > 0.3).astype(np.int8)
    points = np.hstack([features, np.ones((80, 1))])

    found = label_heads._logistic(points, labels, 10.0, np.ones((1, 80), bool), np.zeros((1, 2, 7)))

    for label in range(2):
        expected = LogisticRegression(C=0.1, tol=1e-8).fit(features, labels[:, label])
        np.testing.assert_allclose(found[0, label, :-1], expected.coef_[0], atol=2e-3)


def test_a_label_that_all_have_or_none_does_no_harm():
    features = np.random.default_rng(7).normal(size=(30, 4))
    labels = np.zeros((30, 3), np.int8)
    labels[:, 1] = 1
    labels[::2, 2] = 1

    for fit in (best_label_head, label_means):
        assert np.isfinite(fit(features, labels).head.logits(features)).all()


# Models


def test_strategies_and_baselines_learn_the_labels(trained, dataset):
    test = dataset.split("test")
    reached = {}
    for name, each in trained.items():
        outputs = each.bundle.predict_outputs(test.samples)
        reached[name] = score(MAP, test.labels, MULTI_LABEL.predicted(outputs), len(NAMES))
        assert each.held_out.task == "multi_label"
        assert len(each.bundle.thresholds) == len(NAMES)
    guess = float((test.labels == 1).mean())
    assert reached["full"] > guess + 0.3
    assert reached["linear_probe"] > guess + 0.2
    assert min(reached.values()) > guess


@pytest.mark.parametrize("name", ["full", "classical"])
def test_a_bundle_answers_alike_after_it_was_saved_and_in_onnx(trained, dataset, tmp_path, name):
    bundle, samples = trained[name].bundle, dataset.split("test").samples[:9]
    bundle.save(tmp_path / name)
    validate(json.loads((tmp_path / name / "model.json").read_text()))
    loaded = ModelBundle.load(tmp_path / name)

    assert (loaded.task, loaded.thresholds, loaded.classes) == ("multi_label", bundle.thresholds, NAMES)
    np.testing.assert_array_equal(loaded.predict_outputs(samples), bundle.predict_outputs(samples))
    export(bundle, tmp_path / "model.onnx", digest="sha256:0")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (found,) = session.run(["probabilities"], {"images": samples})
    np.testing.assert_allclose(found, bundle.predict_outputs(samples), atol=1e-5)
    with pytest.raises(InputError, match="holds classifiers, and this model's task is multi_label; choose onnx"):
        export_as(bundle, tmp_path / "hf", format="hf", digest="sha256:0")


@pytest.mark.parametrize("machine", ["logistic", "svc"])
def test_the_classical_bundle_scores_as_scikit_learn_does(dataset, machine):
    from headstart.models.classical import converted_labels
    from headstart.strategies.baselines._classical_labels import _fitted, _scores
    from headstart.strategies.baselines._descriptors import described

    train = dataset.split("train")
    parts = described(train.samples, dataset.kind, dataset.given)
    name, features = next(iter(parts.items()))
    labels = train.labels.copy()
    labels[:, 0], labels[::3, 1] = 1, -1

    fitted = _fitted(machine, 1.0, features, labels)
    _, network = converted_labels(machine, fitted, features.shape[1], dataset.kind, name)

    plain = dataset.kind.plain(dataset.given)
    found = network(plain(dataset.kind.batch(train.samples[:]))).detach().numpy()
    np.testing.assert_allclose(found, _scores(machine, 1.0, features, labels, features), atol=2e-4)


def test_thresholds_that_are_no_shares_are_refused(trained, tmp_path):
    from headstart.storage.sums import write_sums

    trained["linear_probe"].bundle.save(tmp_path / "bundle")
    path = tmp_path / "bundle" / "model.json"
    for wrong in ([0.5], [0.5, 0.5, 0.5, 2.0], "half", [0.5, 0.5, 0.5, True]):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"thresholds": wrong}))
        write_sums(tmp_path / "bundle", ("model.json", "model.safetensors"))
        with pytest.raises(InputError, match="no usable thresholds"):
            ModelBundle.load(tmp_path / "bundle")


def test_answers_name_the_labels_that_are_given(trained):
    bundle = trained["full"].bundle
    outputs = np.array([[[0.9, 0.5], [0.1, 0.5], [0.7, 0.6], [0.2, 0.5]], [[0.4, 0.5]] * 4], dtype=np.float32)

    table = answers(bundle, outputs)

    assert list(table) == ["labels", "p_0", "p_1", "p_2", "p_3"]
    assert table["labels"].tolist() == ["0;2", "none"]
    rows = table.to_dict(orient="records")
    assert [in_short(bundle, row) for row in rows] == [["0;2", "0.900;0.700"], ["none", "-"]]


def test_models_that_tie_are_averaged_with_thresholds_of_their_own(source, dataset, context, tmp_path):
    strategy = Strategy.of(
        {"name": "full", "transfer": "full", "schedule": "constant", "regularizer": "l2_sp", "strength": 0.01}, at="s"
    )
    models = {
        f"full-{seed}": transfer(
            source, dataset, strategy, training=TRAINING, context=replace(context, seed=seed, cross_validate=False)
        )
        for seed in (1, 2)
    }
    contenders = [
        Contender(name, kind, each.save(tmp_path / name, dataset), each.validation, 1.0, "")
        for (name, each), kind in zip(models.items(), ("transfer", "baseline"), strict=True)
    ]

    (found,) = combined(contenders, Evaluation(metric=MAP), tmp_path)

    bundle, samples = ModelBundle.load(found.path), dataset.split("test").samples
    shares = {member["strategy"]: member["weight"] for member in bundle.provenance["members"]}
    chances = {name: each.bundle.predict_outputs(samples)[:, :, 0] for name, each in models.items()}
    logits = bundle.predict_logits(samples)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-logits)), sum(shares[each] * chances[each] for each in models), atol=1e-5
    )
    assert len(bundle.thresholds) == len(NAMES)
    assert found.held_out.task == "multi_label"
    own = {name: predictions_of(each.bundle, dataset.split("test")) for name, each in models.items()}
    # Had its members' other trainings come to the same, so would the average.
    (again,) = trained_again(bundle, own, {name: [each] for name, each in own.items()})
    np.testing.assert_allclose(again, bundle.kind.predicted(bundle.predict_outputs(samples)), rtol=1e-4, atol=1e-5)
    export(bundle, tmp_path / "model.onnx", digest="sha256:0")


# The judgement


def test_the_verdict_and_the_leaderboard_are_about_the_labels(assessment):
    board = assessment.leaderboard
    assert {each.baseline for each in board.comparisons} == {"scratch", "classical", "every label"}
    assert "mean average precision" in board.sentence
    for entry in board.entries:
        assert set(entry.second) == {"macro_f1"}
        assert entry.accuracy is None
    assert assessment.confusion == ([], [])
    figures = assessment.figures(board.chosen.strategy)
    assert {f"test/{MAP}", f"test/{MAP}_low", "test/macro_f1", "test/micro_f1"} <= figures.keys()
    assert not {"test/accuracy", "test/ece"} & figures.keys()


def test_the_page_shows_how_well_each_label_is_told(assessment, dataset, source_path):
    found = diagnose(assessment, dataset, source_path, evaluation=Evaluation(resamples=200, robustness=20))
    assert (found.robustness.metric, found.robustness.items) == (MAP, 20)
    assert found.scratch_robustness.clean.low <= found.scratch_robustness.clean.value
    # What corrupts most leaves less of the labels than nothing does.
    assert min(row.values[-1].value for row in found.robustness.corrupted) < found.robustness.clean.value
    assert [each.name for each in found.labels] == list(NAMES)
    for each in found.labels:
        assert each.average_precision.low <= each.average_precision.value <= each.average_precision.high
        assert each.precision.low <= each.precision.value <= each.precision.high
    json.loads(found.to_json())
    page = report(
        assessment.with_facts(headline_facts(assessment, found, dataset)),
        found,
        dataset,
        experiment="pictures",
        source={"source": "models:/pictures-source/1", "digest": "sha256:0"},
        run_id="1",
        tracking_uri="sqlite:///mlflow.db",
    )
    page = " ".join(page.split())
    assert "tells each label" in page
    assert "Mean average precision of" in page
    assert "every label with its share" in page
    assert "Fisher's exact test" in page
    for absent in ("Confusion matrix", "Reliability"):
        assert absent not in page.partition("<body")[2]


def test_a_label_that_transfer_loses_is_named(assessment, dataset, source_path):
    from headstart.judging.headline import Findings, labels_lost

    ours = assessment.predicted("scratch")
    wrong = ours.outputs.copy()
    wrong[:, 2, 0] = 1 - (ours.labels[:, 2] == 1)
    findings = Findings(assessment.leaderboard, replace(ours, outputs=wrong), ours, {}, validated=0)

    assert "1 of 4 labels surely have a higher log loss than with scratch: 2 (" in labels_lost(findings)
    assert labels_lost(replace(findings, predictions=ours)) is None


def test_predictions_are_read_back_and_paired_with_a_model_of_another_order(assessment, trained, dataset):
    one, other = (read_predictions(assessment.predictions / f"{name}.parquet") for name in ("full", "scratch"))
    test = dataset.split("test")
    np.testing.assert_array_equal(one.labels, test.labels)
    np.testing.assert_allclose(one.outputs, trained["full"].bundle.predict_outputs(test.samples), atol=1e-6)
    order = [2, 0, 3, 1]
    turned = replace(
        other,
        classes=tuple(NAMES[each] for each in order),
        labels=other.labels[:, order],
        outputs=other.outputs[:, order],
    )

    pair, same = stored_pair(one, turned), stored_pair(one, other)

    np.testing.assert_array_equal(pair.theirs, same.theirs)
    full, scratch = trained["full"].bundle, trained["scratch"].bundle
    evaluated = evaluated_pair(full, scratch, test, dataset.classes)
    assert evaluated.ours.shape == (len(test.labels), len(NAMES))


def test_a_source_of_several_labels_is_judged_on_its_own_data(source, pictures, tmp_path):
    dataset = packed(pictures / "source" / "labels.csv", tmp_path / "packed")

    found = evaluate_source(source, dataset, experiment="pictures", address="here")

    assert "mean average precision" in found.sentence
    assert found.figures[f"test/{MAP}"] > 0.6
    assert "micro F1" in found.report


def test_new_labelled_samples_measure_it_and_are_compared_with_those_of_the_test(trained, dataset, pictures):
    table, bundle = pictures / "target" / "labels.csv", trained["full"].bundle

    found = measure(bundle, str(table), metric=MAP)

    assert set(found.figures) == {MAP, "macro_f1", "macro_precision", "macro_recall", "micro_f1"}
    assert (found.mistakes, found.classes) == ([], ())
    assert list(found.table) == ["path", "label", "predicted", "p_0", "p_1", "p_2", "p_3"]
    with pytest.raises(InputError, match="accuracy is not for a model of the task multi_label; choose one of"):
        measure(bundle, str(table), metric="accuracy")
    test, new = dataset.split("test"), observe(bundle, str(table))
    before = observe_kept(bundle, features_to_keep(bundle, dataset, None), test.labels)
    np.testing.assert_allclose(before.outputs, bundle.predict_outputs(test.samples), atol=1e-5)
    looked = monitor(before, new, bundle.classes, metric=MAP, promised=found.value)
    assert looked.measured.value == pytest.approx(found.value.value)
    assert [each.name for each in looked.classes] == list(bundle.classes)
    # The test split is a part of the table.
    assert all(abs(each.now.value - each.before) < 0.1 for each in looked.classes)


def test_a_label_that_the_model_does_not_know_is_refused(trained, tmp_path):
    table = write(tmp_path / "data", ["0;9", "1"] * 4)

    with pytest.raises(InputError, match="has the label '9', which the model does not know; it knows: 0, 1, 2, 3"):
        measure(trained["full"].bundle, str(table), metric=MAP)


# The recipe


@pytest.mark.parametrize(
    ("task", "metric", "reason"),
    [
        ("multi_label", "accuracy", "accuracy is for classes.*choose one of macro_f1"),
        ("multi_label", "mae", "mae is for numbers, and target.data.task is multi_label"),
        ("auto", MAP, "is for several labels; say target.data.task: multi_label"),
    ],
)
def test_a_metric_of_another_task_is_refused_before_anything_runs(task, metric, reason):
    recipe = {"name": "r", "source": {"data": {"uri": "s"}}, "target": {"data": {"uri": "t", "task": task}}}

    with pytest.raises(InputError, match=reason):
        Recipe.of({**recipe, "evaluation": {"metric": metric}}, at="recipe")

    kept = Recipe.of({**recipe, "evaluation": {"metric": "macro_f1"}}, at="recipe")
    assert kept.evaluation.metric == "macro_f1"
