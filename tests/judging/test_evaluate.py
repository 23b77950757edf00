import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError
from headstart.features.heads import nearest_class_mean
from headstart.judging.evaluate import Contender, evaluate, evaluate_source, look_closer, read_baselines, report
from headstart.judging.evidence import Evidence
from headstart.judging.section import Evaluation
from headstart.metrics.predictions import read_predictions, write_predictions
from headstart.models.bundle import ModelBundle
from headstart.models.convnet import convnet
from headstart.models.preprocessing import Preprocessing
from headstart.storage.local import write_json
from headstart.training.section import Training
from headstart_pipelines.demo import digits, write_folder

EPOCHS = [{"epoch": 1, "val/accuracy": 0.3}]
QUICK = Evaluation(resamples=200)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Pictures of 0, 1 and 2."""
    root = tmp_path_factory.mktemp("evaluated")
    images, labels = digits()
    chosen = np.flatnonzero(labels < 3)[:90]
    write_folder(images[chosen], labels[chosen], root / "pictures")
    shares = {"train": 0.4, "val": 0.2, "test": 0.4}
    return prepare(Data.of({"uri": str(root / "pictures"), "size": 16, "split": shares}), root / "packed")


@pytest.fixture(scope="module")
def contenders(dataset, tmp_path_factory) -> dict[str, Contender]:
    """A model that reads the digits by prototypes of random features, one with a random head, and a table."""
    root = tmp_path_factory.mktemp("contenders")
    train, test = dataset.split("train"), dataset.split("test")
    torch.manual_seed(0)
    bundle = ModelBundle(
        network=convnet(classes=3, channels=1).eval(),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(train.samples, size=16, channels=1),
        classes=dataset.classes,
        provenance={"role": "target", **dataset.digests, "history": EPOCHS, "kept_epoch": 1},
    )
    bundle.save(root / "scratch")
    nearest_class_mean(bundle.predict_features(train.samples), train.labels, 3).install(bundle.network)
    del bundle.provenance["history"], bundle.provenance["kept_epoch"]
    bundle.save(root / "zero")
    write_predictions(root / "classical.parquet", test.ids, test.labels, np.eye(3)[test.labels], dataset.classes)
    return {
        "zero": Contender("zero", "transfer", root / "zero", 0.9, 1.0, "run-zero", "models:/digits-source/1#sha256=12"),
        "scratch": Contender("scratch", "baseline", root / "scratch", 0.3, 2.0, "run-scratch"),
        "classical": Contender("classical", "baseline", root / "classical.parquet", 0.95, 3.0, "run-classical"),
    }


@pytest.fixture(scope="module")
def assessment(dataset, contenders, tmp_path_factory):
    """The assessment of all three, and the folder with their predictions."""
    folder = tmp_path_factory.mktemp("assessed") / "predictions"
    return evaluate(list(contenders.values()), dataset, folder, evaluation=QUICK), folder


def test_every_contender_is_judged_on_the_whole_test_split(assessment, contenders, dataset):
    found, folder = assessment
    test = dataset.split("test")
    assert sorted(file.stem for file in folder.iterdir()) == ["classical", "scratch", "zero"]
    for entry in found.leaderboard.entries:
        kept = read_predictions(folder / f"{entry.strategy}.parquet")
        assert (kept.ids.tolist(), kept.labels.tolist()) == (test.ids.tolist(), test.labels.tolist())
        assert entry.value == pytest.approx(accuracy_score(test.labels, kept.probabilities.argmax(1)))
        assert found.metrics[entry.strategy]["accuracy"] == pytest.approx(entry.value)
        contender = contenders[entry.strategy]
        assert (entry.validation, entry.seconds, entry.run_id) == (
            contender.validation, contender.seconds, contender.run_id,
        )  # fmt: skip
    assert found.leaderboard.items == len(test.labels)


def test_predictions_are_the_models_own(assessment, contenders, dataset):
    _, folder = assessment
    expected = ModelBundle.load(contenders["zero"].path).predict_probabilities(dataset.split("test").samples)
    assert read_predictions(folder / "zero.parquet").probabilities == pytest.approx(expected, abs=1e-6)


def test_the_gain_over_scratch_is_that_of_the_chosen_strategy(assessment):
    board = assessment[0].leaderboard
    values = {entry.strategy: entry.value for entry in board.entries}
    assert board.chosen.strategy == assessment[0].chosen.strategy == "zero"
    assert board.chosen.gain == pytest.approx(values["zero"] - values["scratch"])
    assert board.verdict == "helped"


def test_only_what_was_trained_has_a_history_and_an_epoch_that_was_kept(assessment):
    assert assessment[0].history == {"scratch": EPOCHS}
    assert assessment[0].kept == {"scratch": 1}


def test_the_strategy_is_chosen_on_validation_whatever_the_test_says(contenders, dataset, tmp_path):
    unlucky = replace(contenders["zero"], validation=0.2)
    lucky = replace(contenders["scratch"], strategy="partial", kind="transfer", validation=0.8)
    found = evaluate([unlucky, lucky], dataset, tmp_path, evaluation=QUICK)
    assert found.chosen == lucky
    assert found.leaderboard.entries[0].strategy == "zero"


def test_the_evaluation_section_is_obeyed(contenders, dataset, tmp_path):
    section = Evaluation(metric="macro_f1", confidence=0.8, min_gain=0.99, resamples=100)
    board = evaluate(list(contenders.values()), dataset, tmp_path, evaluation=section, seed=5).leaderboard
    assert (board.metric, board.confidence, board.resamples, board.seed) == ("macro_f1", 0.8, 100, 5)
    assert board.verdict == "no evidence"


def test_scratchs_trainings_with_other_seeds_widen_the_gain(contenders, dataset, tmp_path):
    test = dataset.split("test")
    shutil.copytree(contenders["scratch"].path, tmp_path / "fitted" / "scratch")
    scratch = replace(contenders["scratch"], path=tmp_path / "fitted" / "scratch")
    (tmp_path / "fitted" / "retrained").mkdir()
    right = np.eye(3)[test.labels]
    write_predictions(tmp_path / "fitted" / "retrained" / "1.parquet", test.ids, test.labels, right, dataset.classes)
    both = [
        evaluate([contenders["zero"], each], dataset, tmp_path / "predictions", evaluation=QUICK).leaderboard
        for each in (contenders["scratch"], scratch)
    ]
    value = next(entry.value for entry in both[1].entries if entry.strategy == "scratch")
    assert both[0].seed_deviation is None
    assert both[1].seed_deviation == pytest.approx(np.std([value, 1.0], ddof=1))
    assert both[1].chosen.gain_low < both[0].chosen.gain_low


def test_a_model_that_was_trained_on_another_data_set_is_refused(contenders, dataset, tmp_path):
    bundle = ModelBundle.load(contenders["zero"].path)
    bundle.provenance["data_digest"] = "sha256:other"
    bundle.save(tmp_path / "foreign")
    foreign = replace(contenders["zero"], path=tmp_path / "foreign")
    with pytest.raises(HeadstartError, match="zero was trained on the data set sha256:other, not on"):
        evaluate([foreign], dataset, tmp_path / "predictions", evaluation=QUICK)


def test_a_model_that_was_trained_on_another_split_of_the_same_data_is_refused(contenders, dataset, tmp_path):
    folder, settings = dataset.manifest["source"]["uri"], dataset.manifest["settings"]
    other = prepare(
        Data.of({"uri": folder, "size": 16, "split": settings["split"]}), tmp_path / "other", seed=settings["seed"] + 1
    )
    assert other.digest == dataset.digest
    with pytest.raises(HeadstartError, match="zero was trained on the training split"):
        evaluate([contenders["zero"]], other, tmp_path / "predictions", evaluation=QUICK)


@pytest.mark.parametrize("change", ["order", "samples"])
def test_predictions_for_other_samples_are_refused(contenders, dataset, tmp_path, change):
    test = dataset.split("test")
    ids = test.ids[::-1] if change == "order" else np.char.add(test.ids, "x")
    labels = test.labels[::-1] if change == "order" else test.labels
    write_predictions(tmp_path / "other.parquet", ids, labels, np.eye(3)[labels], dataset.classes)
    other = replace(contenders["classical"], path=tmp_path / "other.parquet")
    with pytest.raises(HeadstartError, match=r"classical.*different samples"):
        evaluate([contenders["zero"], other], dataset, tmp_path / "predictions", evaluation=QUICK)


def test_a_contender_survives_as_an_artifacts_metadata(contenders):
    for contender in contenders.values():
        metadata = {**contender.to_metadata(), "display_name": "of the artifact's own"}
        assert "path" not in contender.to_metadata()
        assert Contender.from_metadata(contender.path, metadata) == contender


def test_listed_baselines_are_read_back(contenders, tmp_path):
    baselines = [contenders["scratch"], contenders["classical"]]
    listed = [{"path": each.path.name, **each.to_metadata()} for each in baselines]
    write_json(tmp_path / "baselines.json", listed)
    assert read_baselines(tmp_path) == [replace(each, path=tmp_path / each.path.name) for each in baselines]


def test_the_report_gives_verdict_lineage_and_how_to_do_it_again(assessment, looked, dataset):
    ranking = [{"source": "models:/digits-source/1#sha256=12", "probe": 0.913, "probe_error": 0.021}]
    source = {"source": ranking[0]["source"], "digest": "sha256:12", "ranking": ranking}
    page = report(
        assessment[0], looked, dataset, experiment="digits", source=source, run_id="1a2b3c", tracking_uri="http://m:5"
    )
    for expected in (
        "helped: zero gains",
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


# The closer look


@pytest.fixture(scope="module")
def looked(assessment, contenders, dataset):
    section = Evaluation(resamples=100, curve=(2,), robustness=12, explanations=4)
    return look_closer(
        assessment[0], list(contenders.values()), dataset, assessment[1], contenders["zero"].path, evaluation=section
    )


def test_a_closer_look_finds_all_that_the_recipe_asks_for(looked, assessment, dataset):
    chosen = assessment[0].metrics["zero"]
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
    kept = read_predictions(assessment[1] / "zero.parquet")
    chances = kept.probabilities[np.arange(len(kept.labels)), kept.labels]
    assert [each.probability for each in looked.explained.hardest] == pytest.approx(np.sort(chances)[:2])


def test_its_numbers_are_kept_as_json_without_the_pictures(looked):
    text = looked.to_json()
    found = json.loads(text)
    assert found["intervals"]["accuracy"]["low"] <= found["intervals"]["accuracy"]["value"]
    assert [each["baseline"] for each in found["curve"]["catch_ups"]] == ["probe on random weights", "classical"]
    assert len(found["robustness"]["corrupted"]) == 7
    assert "data:image" not in text


def test_what_the_recipe_switches_off_is_not_computed(assessment, contenders, dataset, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError

    for name in ("data_efficiency", "robustness", "explain"):
        monkeypatch.setattr(f"headstart.judging.examination.{name}", refuse)
    section = Evaluation(resamples=100, curve=(), robustness=0, explanations=0)
    found = look_closer(
        assessment[0], list(contenders.values()), dataset, assessment[1], contenders["zero"].path, evaluation=section
    )
    assert (found.curve, found.robustness, found.scratch_robustness, found.explained) == (None, None, None, None)


@pytest.mark.parametrize(("each", "words"), [(5, "is right on 0.9"), (1, "cannot be told: a probe asks")])
def test_however_many_classes_there_are_the_probe_is_asked_about_some_samples_of_each_or_says_nothing(
    assessment, contenders, dataset, monkeypatch, each, words
):
    # As a thousand classes leave one of a thousand samples to each.
    monkeypatch.setattr("headstart.judging.examination._SEEN", len(dataset.classes))
    monkeypatch.setattr("headstart.judging.examination._PROBED_PER_CLASS", each, raising=False)
    section = Evaluation(resamples=100, curve=(), robustness=0, explanations=0)
    found = look_closer(
        assessment[0], list(contenders.values()), dataset, assessment[1], contenders["zero"].path, evaluation=section
    )
    assert words in found.reasons[0].sentence


def test_the_curve_trains_the_chosen_strategy_and_scratch_where_the_recipe_asks_for_it(assessment, contenders, dataset):
    section = Evaluation(resamples=100, curve=(2,), curve_training=True, robustness=0, explanations=0)
    inputs = (assessment[0], list(contenders.values()), dataset, assessment[1], contenders["zero"].path)
    with pytest.raises(InputError, match="curve_training needs the recipe's training and strategies"):
        look_closer(*inputs, evaluation=section)
    training = Training(epochs=1, batch_size=8, augmentation="none")
    found = look_closer(
        *inputs, evaluation=section, training=training, strategies=[{"name": "zero", "transfer": "zero"}]
    )
    trained = {each.name: each.kind for each in found.curve.series if each.trained}
    assert trained == {"zero, trained": "transfer", "scratch, trained": "baseline"}
    assert all(0 <= score <= 1 for each in found.curve.series for point in each.points for score in point.scores)


# What speaks for a source


@pytest.fixture(scope="module")
def headless(dataset) -> ModelBundle:
    torch.manual_seed(0)
    return ModelBundle(
        network=convnet(classes=0, channels=1).eval(),
        architecture="convnet",
        modality="image",
        preprocessing=Preprocessing.fit(dataset.split("train").samples, size=16, channels=1),
        classes=(),
        provenance={"role": "source", "objective": "vicreg", "head": "none"},
    )


def test_a_source_without_a_head_is_judged_by_one_that_is_fitted_to_its_features_for_that(dataset, headless):
    found = evaluate_source(headless, dataset, experiment="digits", address="there")
    test = dataset.split("test")
    assert found.sentence.startswith("A linear head on the source's features reaches ")
    predicted = found.predictions.probabilities.argmax(1)
    assert found.figures["test/accuracy"] == accuracy_score(test.labels, predicted) > 0.5
    assert found.predictions.probabilities.sum(axis=1) == pytest.approx(1.0, abs=1e-5)
    assert found.predictions.classes == dataset.classes
    assert headless.network.head.weight.shape[0] == 0
    assert "vicreg, without labels" in found.report
    assert "Figures on the test split" in found.report


def test_of_a_source_whose_data_has_no_labels_nothing_is_claimed(dataset, headless, tmp_path):
    unlabelled = prepare(
        Data.of(
            {
                "uri": str(dataset.path.parent / "pictures"),
                "size": 16,
                "split": {"train": 0.4, "val": 0.2, "test": 0.4},
                "labels": "none",
            }
        ),
        tmp_path / "packed",
    )
    found = evaluate_source(headless, unlabelled, experiment="digits", address="there")
    assert found.figures == {}
    assert found.sentence == "The source's own data has no labels: what it is worth shows on a target."
    assert found.sentence.replace("'", "&#39;") in found.report
    assert "Figures on the test split" not in found.report
    assert "none, its samples have no labels" in found.report
    assert found.digests["test_digest"] == unlabelled.split_digest("test")
    found.save(tmp_path / "evidence")
    kept = Evidence.load(tmp_path / "evidence")
    assert kept.predictions.ids.tolist() == unlabelled.split("test").ids.tolist()
    seen = {*unlabelled.split("train").ids, *unlabelled.split("val").ids}
    assert set(kept.trained_on.tolist()) == seen
