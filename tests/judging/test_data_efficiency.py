from dataclasses import replace

import numpy as np
import pytest

from headstart.data.dataset import Dataset
from headstart.data.prepare import prepare
from headstart.data.section import Data
from headstart.features.heads import ridge
from headstart.judging.data_efficiency import SEEDS, Curve, Point, Series, data_efficiency, subset_of
from headstart_pipelines.demo import digits, write_folder


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    """Pictures of 0, 1 and 2: about 24 a class to train on."""
    root = tmp_path_factory.mktemp("curve")
    images, labels = digits()
    chosen = np.flatnonzero(labels < 3)[:180]
    write_folder(images[chosen], labels[chosen], root / "pictures")
    return prepare(
        Data.of({"uri": str(root / "pictures"), "size": 16, "split": {"train": 0.4, "val": 0.2, "test": 0.4}}),
        root / "packed",
    )


@pytest.fixture(scope="module")
def features(dataset):
    """Of the source the pictures themselves, which tell the classes apart; at random, noise."""
    generator = np.random.default_rng(0)
    train, test = (dataset.split(name).samples.reshape(-1, 256).astype(np.float32) / 255 for name in ("train", "test"))
    noise = [generator.normal(size=(len(each), 20)).astype(np.float32) for each in (train, test)]
    return {"source": (train, test), "random": tuple(noise)}


def series(name, kind, means, sizes=(1, 4, 16)):
    return Series(name, kind, tuple(Point(size, (mean, mean)) for size, mean in zip(sizes, means, strict=True)))


def test_each_method_is_judged_with_some_labels_and_with_all_of_them(dataset, features):
    curve = data_efficiency(dataset, [2, 5, 1000], features)
    everything = round(len(dataset.split("train").labels) / 3)
    assert curve.sizes == [2, 5, everything]
    named = {each.name: each for each in curve.series}
    assert list(named) == ["probe on the source", "class means on the source", "probe on random weights", "classical"]
    assert [len(point.scores) for point in named["classical"].points] == [SEEDS, SEEDS, 1]
    assert named["probe on the source"].points[-1].mean > 0.95
    assert named["classical"].points[-1].mean > 0.95
    assert named["probe on random weights"].points[-1].mean < 0.6


def test_the_point_of_all_labels_is_the_probe_fitted_to_all_of_them(dataset, features):
    curve = data_efficiency(dataset, [2], features)
    train, test = dataset.split("train"), dataset.split("test")
    ours, theirs = features["source"]
    expected = np.mean(ridge(ours, train.labels, 3).logits(theirs).argmax(1) == test.labels)
    assert curve.series[0].points[-1].mean == pytest.approx(expected)


def test_more_labels_include_those_of_fewer_and_every_class_has_as_many(dataset, features, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "headstart.strategies.baselines.classical.QuickClassical.predict",
        lambda self, subset, labels, others, *, seed: (
            seen.append((seed, subset, labels)) or np.zeros(len(others.descriptors["pixels"]), dtype=int)
        ),
    )
    data_efficiency(dataset, [2, 5], features)
    assert [seed for seed, _, _ in seen] == [0, 1, 2, 0, 1, 2, 0]
    for _, subset, labels in seen[:3]:
        assert np.bincount(labels).tolist() == [2, 2, 2]
        assert any(set(subset) <= set(larger) for _, larger, _ in seen[3:6])
    assert len({tuple(subset) for _, subset, _ in seen[:3]}) == 3


def test_the_classical_line_is_chosen_by_the_metric_of_the_curve(dataset, features, monkeypatch):
    asked = set()
    monkeypatch.setattr(
        "headstart.strategies.baselines.classical.QuickClassical.predict",
        lambda self, subset, labels, others, *, seed: (
            asked.add(self.metric) or np.zeros(len(others.descriptors["pixels"]), dtype=int)
        ),
    )
    data_efficiency(dataset, [], features, metric="macro_f1")
    assert asked == {"macro_f1"}


def test_of_very_many_labels_the_last_point_takes_a_part(dataset, features, monkeypatch):
    monkeypatch.setattr("headstart.judging.data_efficiency._MOST", 30)
    curve = data_efficiency(dataset, [2, 5, 20], features)
    assert curve.sizes == [2, 5, 10]
    assert not curve.complete
    monkeypatch.undo()
    assert data_efficiency(dataset, [], features).complete


def test_a_training_that_is_asked_for_sees_the_part_and_nothing_else_of_the_training_split(dataset, features):
    parts = []

    class Model:
        def predict_logits(self, samples):
            return np.eye(3)[np.zeros(len(samples), dtype=int)]

    def train(part, seed):
        parts.append((part.split("train").labels.tolist(), part.counts["test"], seed))
        return Model()

    curve = data_efficiency(dataset, [2], features, trained={"full, trained": ("transfer", train)})
    assert [sorted(labels) for labels, _, _ in parts[:3]] == [[0, 0, 1, 1, 2, 2]] * 3
    assert [seed for _, _, seed in parts] == [0, 1, 2, 0]
    assert {count for _, count, _ in parts} == {dataset.counts["test"]}
    assert [each.name for each in curve.series if each.trained] == ["full, trained"]
    share = np.mean(dataset.split("test").labels == 0)
    assert curve.series[-1].points[0].mean == pytest.approx(share)


def test_a_part_of_a_data_set_is_a_data_set_with_those_training_samples(dataset, tmp_path):
    positions = np.array([1, 3, 8])
    part = subset_of(dataset, positions, tmp_path / "part")
    whole = dataset.split("train")
    for name in ("ids", "labels", "paths", "samples"):
        assert np.array_equal(getattr(part.split("train"), name), getattr(whole, name)[positions])
    for split in ("val", "test"):
        assert part.split(split).ids.tolist() == dataset.split(split).ids.tolist()
    other = subset_of(dataset, positions + 1, tmp_path / "other")
    assert len({each.split_digest("train") for each in (part, other, dataset)}) == 3


def test_a_baseline_catches_up_where_the_lines_cross_on_the_logarithmic_axis():
    curve = Curve(
        "accuracy",
        (
            series("probe", "transfer", (0.5, 0.7, 0.8)),
            series("means", "transfer", (0.6, 0.6, 0.6)),
            series("early", "baseline", (0.6, 0.75, 0.8)),
            series("late", "baseline", (0.2, 0.6, 0.9)),
            series("never", "baseline", (0.6, 0.9, 0.7)),
        ),
        0.0,
    )
    found = {each.baseline: each.labels_per_class for each in curve.catch_ups}
    assert found["early"] == 1
    # From .1 behind at 4 to .1 ahead at 16: half-way in the logarithm.
    assert found["late"] == pytest.approx(8)
    # That it was ahead in between counts for nothing where more labels put it behind again.
    assert found["never"] is None


def test_the_last_doubling_is_a_share_of_the_last_step():
    # .1 over two doublings, from 4 to 16 labels.
    rise = Curve("accuracy", (series("probe", "transfer", (0.5, 0.7, 0.8)),), 0.0).last_doubling(trained=False)
    assert (rise.method, rise.labels_per_class) == ("probe", 16)
    assert rise.value == pytest.approx(0.05)
    assert Curve("accuracy", (series("probe", "transfer", (0.5,), (4,)),), 0.0).last_doubling(trained=False) is None


def test_the_last_doubling_is_told_apart_by_whether_networks_were_trained():
    trained = replace(series("full, trained", "transfer", (0.3, 0.4, 0.6)), trained=True)
    curve = Curve("accuracy", (series("probe", "transfer", (0.5, 0.7, 0.7)), trained), 0.0)
    assert curve.last_doubling(trained=True).value == pytest.approx(0.1)
    assert curve.last_doubling(trained=False).value == pytest.approx(0.0)
    assert Curve("accuracy", curve.series[:1], 0.0).last_doubling(trained=True) is None


def test_the_error_of_a_doubling_is_that_of_the_draws_before_and_of_the_one_of_all_labels():
    points = (Point(8, (0.6, 0.7, 0.8)), Point(16, (0.8,)))
    rise = Curve("accuracy", (Series("probe", "transfer", points),), 0.0).last_doubling(trained=False)
    # Draws differ by .1: of three the mean has .1 / √3, of one .1.
    assert rise.value == pytest.approx(0.1)
    assert rise.error == pytest.approx(0.1 * np.sqrt(1 / 3 + 1))
