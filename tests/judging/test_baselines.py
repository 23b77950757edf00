import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV

from headstart.data.dataset import Dataset
from headstart.data.labelled import LabelledDataset
from headstart.judging.baselines import fit_baseline
from headstart.metrics.metric import metrics_of
from headstart.metrics.predictions import read_predictions
from headstart.metrics.tally import score
from headstart.models.bundle import ModelBundle, bundle_digest
from headstart.strategies.baseline import BASELINES, Like
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart.training.trained import read_held_out

TRAINING = Training(epochs=2, batch_size=8, augmentation="none")


def fitted(name, dataset, directory, like, seed=0, seeds=1, **context):
    options = {"training": TRAINING, "context": RunContext(seed, **context), "run_id": "run", "seeds": seeds}
    return fit_baseline(name, dataset, directory, like=like, **options)


def fit_classical(dataset, metric="accuracy"):
    return BASELINES["classical"].fit(
        Like("convnet", {"size": 16, "channels": 1}), dataset, TRAINING, RunContext(metric=metric)
    )


def test_scratch_has_the_sources_architecture_and_input_and_the_targets_classes(renamed, source, tmp_path):
    contender, params = fitted("scratch", renamed, tmp_path, source)
    bundle = ModelBundle.load(contender.path)
    assert (bundle.architecture, bundle.classes) == (source.architecture, renamed.classes)
    assert (bundle.preprocessing.size, bundle.preprocessing.channels) == (16, 1)
    assert bundle.preprocessing.mean != source.preprocessing.mean
    assert (bundle.provenance["role"], bundle.provenance["strategy"]) == ("baseline", "scratch")
    assert bundle.provenance["data_digest"] == renamed.digest
    assert (contender.strategy, contender.kind, contender.source, contender.run_id) == (
        "scratch",
        "baseline",
        None,
        "run",
    )
    assert (params["epochs"], params["architecture"]) == (2, "convnet")


def test_scratch_takes_nothing_that_the_source_learned(renamed, source, tmp_path):
    learned, _ = fitted("scratch", renamed, tmp_path / "learned", source)
    with torch.no_grad():
        for parameter in source.network.parameters():
            parameter.zero_()
    forgotten, _ = fitted("scratch", renamed, tmp_path / "forgotten", source)
    assert bundle_digest(learned.path) == bundle_digest(forgotten.path)
    assert learned.validation == forgotten.validation


def test_scratch_is_trained_again_with_other_seeds_and_what_these_predict_is_kept(renamed, source, tmp_path):
    contender, _ = fitted("scratch", renamed, tmp_path / "often", source, seeds=3)
    once, _ = fitted("scratch", renamed, tmp_path / "once", source)
    assert bundle_digest(contender.path) == bundle_digest(once.path)
    kept = [read_predictions(tmp_path / "often" / "scratch" / "retrained" / f"{number}.parquet") for number in (1, 2)]
    assert not (tmp_path / "once" / "scratch" / "retrained").exists()
    test = renamed.split("test")
    assert all(each.ids.tolist() == test.ids.tolist() for each in kept)
    other, _ = fitted("scratch", renamed, tmp_path / "other", source, seed=2, cross_validate=False)
    # Held-out samples calibrate the first one alone.
    bundle = replace(ModelBundle.load(other.path), temperature=ModelBundle.load(contender.path).temperature)
    assert kept[1].probabilities == pytest.approx(bundle.predict_probabilities(test.samples), abs=1e-5)
    assert not np.allclose(kept[0].probabilities, kept[1].probabilities)


@pytest.fixture(scope="module")
def classical(renamed, source_path, tmp_path_factory):
    """The classical baseline and the settings that it came to."""
    like = ModelBundle.load(source_path)
    return fitted("classical", renamed, tmp_path_factory.mktemp("classical"), like)


def test_classical_is_kept_as_a_bundle(classical, renamed):
    contender, params = classical
    bundle, test = ModelBundle.load(contender.path), renamed.split("test")
    assert bundle.classes == renamed.classes
    assert np.mean(bundle.predict_logits(test.samples).argmax(1) == test.labels) > 0.8
    assert (bundle.provenance["role"], bundle.provenance["strategy"]) == ("baseline", "classical")
    assert bundle.provenance["data_digest"] == renamed.digest
    assert (contender.strategy, contender.kind) == ("classical", "baseline")
    assert 0.8 < contender.validation <= 1
    assert params["labels"] == renamed.counts["train"] + renamed.counts["val"]
    # No pickle.
    assert sorted(file.name for file in contender.path.iterdir()) == [
        "SHA256SUMS",
        "held_out.parquet",
        "model.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize(("affordable", "count"), [(1e12, 4), (1.0, 0)])
def test_scratch_is_trained_several_times_where_that_is_cheap(
    affordable, count, renamed, source, tmp_path, monkeypatch
):
    monkeypatch.setattr("headstart.judging.retraining._AFFORDABLE", {"baseline": affordable})
    fitted("scratch", renamed, tmp_path, source, seeds="auto")
    assert len(list(tmp_path.glob("scratch/retrained/*.parquet"))) == count


def test_a_classical_model_that_is_too_large_is_kept_by_what_it_predicts(renamed, source, tmp_path, monkeypatch):
    monkeypatch.setattr("headstart.models.classical._MOST_VALUES", 100)
    contender, _ = fitted("classical", renamed, tmp_path, source)
    kept, test = read_predictions(contender.path), renamed.split("test")
    assert not contender.is_kept
    assert kept.ids.tolist() == test.ids.tolist()
    assert kept.labels.tolist() == test.labels.tolist()
    assert kept.probabilities.sum(axis=1) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ["scratch", "classical"])
def test_a_baseline_keeps_what_it_predicts_for_the_samples_that_were_held_out(name, renamed, source, tmp_path):
    contender, _ = fitted(name, renamed, tmp_path, source)
    kept = read_held_out(contender.path)
    # So few are held out by further trainings as well, until all were.
    split = LabelledDataset(renamed).split("train")
    label_of = dict(zip(split.ids.tolist(), split.labels.tolist(), strict=True))
    assert sorted(kept.ids.tolist()) == sorted(label_of)
    assert kept.labels.tolist() == [label_of[each] for each in kept.ids.tolist()]
    assert kept.classes == renamed.classes
    reached = score("accuracy", kept.labels, kept.predicted, len(renamed.classes))
    assert reached == pytest.approx(contender.validation)


def test_classical_learns_nothing_from_the_test_split(classical, renamed, tmp_path):
    copy = Dataset.open(shutil.copytree(renamed.path, tmp_path / "copy"))
    np.save(copy.path / "test.npy", renamed.split("test").samples[::-1])
    copy.write_manifest()
    contender, params = classical
    model = fit_classical(copy)
    assert model.params == params
    kept = ModelBundle.load(contender.path)
    for samples in (renamed.split("test").samples, copy.split("test").samples):
        assert model.bundle.predict_logits(samples) == pytest.approx(kept.predict_logits(samples), abs=1e-5)


def test_classical_predicts_held_out_samples_without_having_seen_them(renamed, tmp_path):
    copy = Dataset.open(shutil.copytree(renamed.path, tmp_path / "copy"))
    for name in ("train", "val"):
        shape = copy.split(name).samples.shape
        np.save(copy.path / f"{name}.npy", np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    copy.write_manifest()
    # A model that had seen them would know noise by heart.
    assert fit_classical(copy).validation < 0.6


class _SearchedError(Exception):
    """Carries what a search is asked to maximise."""


@pytest.mark.parametrize("metric", metrics_of("single_label"))
def test_classical_is_tuned_by_the_metric_that_judges_it(metric, renamed, monkeypatch):
    def stop(search, features, labels):
        raise _SearchedError(search.scoring)

    monkeypatch.setattr(GridSearchCV, "fit", stop)
    with pytest.raises(_SearchedError) as asked:
        fit_classical(renamed, metric=metric)
    labels = np.arange(40) % 3 % 2 + np.repeat([0, 1], [30, 10])
    guesses = DummyClassifier(strategy="stratified", random_state=0).fit(labels[:, None], labels)
    found = check_scoring(guesses, scoring=asked.value.args[0])(guesses, labels[:, None], labels)
    assert found == pytest.approx(score(metric, labels, guesses.predict(labels[:, None]), 3))


def test_with_one_sample_a_class_nothing_is_tuned_and_nothing_claimed(single):
    model = fit_classical(single)
    assert math.isnan(model.validation)
    assert model.held_out is None
    assert (model.params["model"], model.params["features"]) == ("SVC", "gradients")
    test = single.split("test")
    assert np.mean(model.bundle.predict_logits(test.samples).argmax(1) == test.labels) > 0.5
