import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score

from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.errors import HeadstartError
from headstart.judging import assessment as assessing
from headstart.judging import kept_predictions, serving_cost
from headstart.judging.assessment import evaluate
from headstart.judging.contenders import Contender
from headstart.judging.section import Evaluation
from headstart.metrics.predictions import Predictions, read_predictions
from headstart.models.bundle import ModelBundle
from headstart.training import engine
from headstart_pipelines.demo import digits

EPOCHS = [{"epoch": 1, "val/accuracy": 0.3}]
QUICK = Evaluation(resamples=200)


def test_every_contender_is_judged_on_the_whole_test_split(assessment, contenders, dataset):
    found, folder = assessment, assessment.predictions
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
    folder = assessment.predictions
    expected = ModelBundle.load(contenders["zero"].path).predict_probabilities(dataset.split("test").samples)
    assert read_predictions(folder / "zero.parquet").probabilities == pytest.approx(expected, abs=1e-6)


def test_models_predict_on_the_device_that_trains_and_their_cost_is_that_on_the_cpu(
    contenders, dataset, tmp_path, monkeypatch
):
    of_cost, of_predictions = [], []

    def cost_of(bundle, path):
        of_cost.append(bundle.network.head.weight.device.type)
        return serving_cost.cost_of(bundle, path)

    def kept_predictions_of(bundle, path, dataset, state):
        of_predictions.append(bundle.network.head.weight.device.type)
        return kept_predictions.kept_predictions_of(ModelBundle.load(path), path, dataset, state)

    # Any device that torch has here beside the CPU.
    monkeypatch.setattr(engine, "training_device", lambda: torch.device("meta"))
    monkeypatch.setattr(assessing, "cost_of", cost_of)
    monkeypatch.setattr(assessing, "kept_predictions_of", kept_predictions_of)
    evaluate([contenders["zero"]], dataset, tmp_path / "predictions", evaluation=QUICK)
    assert (of_cost, of_predictions) == (["cpu"], ["meta"])


def test_the_gain_over_scratch_is_that_of_the_chosen_strategy(assessment):
    board = assessment.leaderboard
    values = {entry.strategy: entry.value for entry in board.entries}
    assert board.chosen.strategy == assessment.chosen.strategy == "zero"
    assert board.chosen.gain == pytest.approx(values["zero"] - values["scratch"])
    # The classical baseline does better than the source's prototypes.
    assert board.chosen.gain_over_best == pytest.approx(values["zero"] - values["classical"])
    assert (board.best_baseline, board.verdict) == ("classical", "hurt")


def test_what_a_kept_model_costs_stands_beside_what_it_reaches(assessment, contenders):
    """Its weights' bytes, and how long a prediction takes; of a model of which predictions alone were kept nothing."""
    entries = {entry.strategy: entry for entry in assessment.leaderboard.entries}

    for contender in contenders.values():
        entry = entries[contender.strategy]
        if contender.is_kept:
            assert entry.size == sum(file.stat().st_size for file in contender.path.glob("*.safetensors"))
            assert 0 < entry.milliseconds < 1000
            told = assessment.figures(contender.strategy)
            assert (told["model/megabytes"], told["speed/milliseconds"]) == (entry.size / 1e6, entry.milliseconds)
        else:
            assert (entry.size, entry.milliseconds) == (None, None)
            assert "model/megabytes" not in assessment.figures(contender.strategy)
    assert {contender.is_kept for contender in contenders.values()} == {True, False}


def test_only_what_was_trained_has_a_history_and_an_epoch_that_was_kept(assessment):
    assert assessment.history == {"scratch": EPOCHS}
    assert assessment.kept == {"scratch": 1}


def test_the_strategy_is_chosen_on_validation_whatever_the_test_says(contenders, dataset, tmp_path):
    unlucky = replace(contenders["zero"], validation=0.2)
    lucky = replace(contenders["scratch"], strategy="partial", kind="transfer", validation=0.8)
    found = evaluate([unlucky, lucky], dataset, tmp_path, evaluation=QUICK)
    assert found.chosen == lucky
    assert found.leaderboard.entries[0].strategy == "zero"


def test_the_evaluation_section_is_obeyed(contenders, dataset, tmp_path):
    section = Evaluation(metric="macro_f1", confidence=0.8, min_gain=0.99, resamples=100)
    judged = [contenders["zero"], contenders["scratch"]]
    board = evaluate(judged, dataset, tmp_path, evaluation=section, seed=5).leaderboard
    assert (board.metric, board.confidence, board.resamples, board.seed) == ("macro_f1", 0.8, 100, 5)
    assert board.verdict == "no evidence"


def test_scratchs_trainings_with_other_seeds_widen_the_gain(contenders, dataset, tmp_path):
    test = dataset.split("test")
    shutil.copytree(contenders["scratch"].path, tmp_path / "fitted" / "scratch")
    scratch = replace(contenders["scratch"], path=tmp_path / "fitted" / "scratch")
    (scratch.path / "retrained").mkdir()
    right = np.eye(3)[test.labels]
    Predictions(test.ids, test.labels, right, dataset.classes).save(scratch.path / "retrained" / "1.parquet")
    both = [
        evaluate([contenders["zero"], each], dataset, tmp_path / "predictions", evaluation=QUICK).leaderboard
        for each in (contenders["scratch"], scratch)
    ]
    value = next(entry.value for entry in both[1].entries if entry.strategy == "scratch")
    assert both[0].seed_deviation is None
    assert both[1].seed_deviation == pytest.approx(np.std([value, 1.0], ddof=1))
    assert both[1].chosen.gain_low < both[0].chosen.gain_low


def test_the_groups_of_the_data_reach_the_verdict_and_the_kept_predictions(tmp_path):
    images, labels = digits()
    groups = np.arange(300) // 10
    np.savez(tmp_path / "digits.npz", images=images[:300], labels=labels[:300] % 2, groups=groups)
    shares = {"train": 0.3, "val": 0.2, "test": 0.5}
    data = prepare(Data.of({"uri": str(tmp_path / "digits.npz"), "size": 8, "split": shares}), tmp_path / "packed")
    test, made = data.split("test"), []
    for name, kind, hits in (("full", "transfer", 0.9), ("scratch", "baseline", 0.7)):
        right = np.arange(len(test.labels)) < hits * len(test.labels)
        predicted, path = np.where(right, test.labels, 1 - test.labels), tmp_path / f"{name}.parquet"
        Predictions(test.ids, test.labels, np.eye(2)[predicted], data.classes).save(path)
        made.append(Contender(name, kind, path, 0.9, 1.0, "run"))
    found = evaluate(made, data, tmp_path / "predictions", evaluation=QUICK)
    count = len(test.labels) // 10
    assert found.leaderboard.groups == count
    assert f"on {len(test.labels)} test items of {count} groups" in found.leaderboard.sentence
    assert read_predictions(tmp_path / "predictions" / "full.parquet").groups.tolist() == test.groups.tolist()


def test_a_model_that_was_trained_on_another_data_set_is_refused(contenders, dataset, tmp_path):
    bundle = ModelBundle.load(contenders["zero"].path)
    bundle.provenance["data_digest"] = "sha256:other"
    bundle.save(tmp_path / "foreign")
    foreign = replace(contenders["zero"], path=tmp_path / "foreign")
    with pytest.raises(HeadstartError, match="zero was trained on the data set sha256:other, not on"):
        evaluate([foreign], dataset, tmp_path / "predictions", evaluation=QUICK)


def test_a_model_that_was_trained_on_another_split_of_the_same_data_is_refused(contenders, dataset, tmp_path):
    folder, settings = dataset.manifest["source"]["uri"], dataset.manifest["settings"]
    data = Data.of({"uri": folder, "size": 16, "split": settings["split"]})
    other = prepare(data, tmp_path / "other", seed=settings["seed"] + 1)
    assert other.digest == dataset.digest
    with pytest.raises(HeadstartError, match="zero was trained on the training split"):
        evaluate([contenders["zero"]], other, tmp_path / "predictions", evaluation=QUICK)


@pytest.mark.parametrize("change", ["order", "samples"])
def test_predictions_for_other_samples_are_refused(contenders, dataset, tmp_path, change):
    test = dataset.split("test")
    ids = test.ids[::-1] if change == "order" else np.char.add(test.ids, "x")
    labels = test.labels[::-1] if change == "order" else test.labels
    Predictions(ids, labels, np.eye(3)[labels], dataset.classes).save(tmp_path / "other.parquet")
    other = replace(contenders["classical"], path=tmp_path / "other.parquet")
    with pytest.raises(HeadstartError, match=r"classical.*different samples"):
        evaluate([contenders["zero"], other], dataset, tmp_path / "predictions", evaluation=QUICK)
