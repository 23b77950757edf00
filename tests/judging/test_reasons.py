import numpy as np
import pytest
import torch

from headstart.judging.data_efficiency import Curve, Point, Series
from headstart.judging.domain_distance import source_distance
from headstart.judging.leaderboard import build_leaderboard
from headstart.judging.reasons import FAR, Fitted, Probe, reasons
from headstart.judging.section import Evaluation
from headstart.modalities.image.preprocessing import Preprocessing
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle
from tests.judging.boards import candidate_of

LABELS = np.arange(200) % 4


def board(full, scratch):
    """Of 200 test items the strategy gets the first `full` right and scratch the first `scratch`."""

    def candidate(strategy, kind, right):
        predictions = np.where(np.arange(200) < right, LABELS, (LABELS + 1) % 4)
        return candidate_of(strategy, kind, LABELS, np.eye(4)[predictions])

    both = [candidate("full", "transfer", full), candidate("scratch", "baseline", scratch)]
    return build_leaderboard(both, Evaluation())


def curve(trained, *means, spread=0.0):
    """The curve of a probe that gains nothing any more, and of a trained strategy with these means."""
    flat = tuple(Point(2**number, (0.7,)) for number in range(3))
    points = tuple(Point(2**number, (mean - spread, mean, mean + spread)) for number, mean in enumerate(means))
    lines = (
        Series("probe on the source", "transfer", flat),
        Series("full, trained", "transfer", points, trained=True),
    )
    return Curve("accuracy", lines[: 1 + trained], 0.0)


def told(
    full=160,
    scratch=120,
    *,
    probe=(0.8, 0.02, 0.5, 0.03),
    distance=0.03,
    train=0.85,
    strategy="full",
    means=(0.5, 0.7, 0.71),
    trained=True,
    spread=0.0,
):
    """The reasons, by the first words of their questions."""
    found = reasons(
        board(full, scratch),
        probe=probe and Probe(*probe),
        distance=distance,
        fitted=[Fitted(strategy, train, full / 200)],
        curve=curve(trained, *means, spread=spread) if means else None,
    )
    return {each.question: each for each in found}


def answer(found, start):
    return next(each for question, each in found.items() if question.startswith(start))


def test_a_source_is_no_help_where_random_weights_are_within_two_standard_errors():
    assert not answer(told(probe=(0.80, 0.02, 0.70, 0.02)), "Do the source's").speaks_against
    useless = answer(told(probe=(0.80, 0.03, 0.75, 0.02)), "Do the source's")
    assert useless.speaks_against
    assert "is not shown to know what helps" in useless.sentence
    assert "0.800" in useless.sentence
    assert "0.750" in useless.sentence


def test_a_source_is_far_beyond_the_threshold_and_unjudged_where_it_keeps_no_statistics():
    assert not answer(told(distance=FAR), "Is the source").speaks_against
    assert answer(told(distance=FAR + 0.01), "Is the source").speaks_against
    assert not any(question.startswith("Is the source") for question in told(distance=None))


def test_where_no_class_has_two_labels_it_cannot_be_told_what_the_features_know():
    untold = answer(told(probe=None), "Do the source's")
    assert untold.speaks_against is None
    assert "cannot be told" in untold.sentence
    assert "0.000" not in untold.sentence + untold.figure


def test_labels_are_too_few_where_the_last_doubling_still_brought_a_trained_network_something():
    few = answer(told(means=(0.5, 0.6, 0.7)), "Are there too few labels")
    assert few.speaks_against is True
    assert few.sentence.endswith("the last doubling of them has brought full +0.100: more labels would help further.")
    enough = answer(told(means=(0.5, 0.7, 0.71)), "Are there too few labels")
    assert enough.speaks_against is False
    assert enough.sentence.endswith("more labels would add little.")
    assert not any(question.startswith("Are there too few labels") for question in told(means=None))


@pytest.mark.parametrize("last", [0.71, 0.75])
def test_where_the_draws_differ_by_more_than_the_doubling_brought_nothing_is_concluded(last):
    unsure = answer(told(means=(0.5, 0.7, last), spread=0.05), "Are there too few labels")
    assert unsure.speaks_against is None
    assert unsure.sentence.endswith("whether more would help cannot be told.")


def test_from_frozen_features_alone_nothing_is_concluded_about_labels():
    reason = answer(told(trained=False), "Are there too few labels")
    assert reason.speaks_against is None
    assert "brought the probe on the source +0.000" in reason.sentence
    assert "more labels would" not in reason.sentence
    assert reason.sentence.endswith("evaluation.curve_training measures.")


def test_a_model_overfits_where_it_is_much_better_on_what_it_was_trained_on():
    assert answer(told(train=0.95), "Does full").speaks_against
    assert not answer(told(train=0.85), "Does full").speaks_against


def test_the_same_sentence_has_the_same_sign_whoever_it_is_about():
    full, scratch = (answer(told(train=0.95, strategy=name), f"Does {name} overfit") for name in ("full", "scratch"))
    assert full.sentence.replace("full", "scratch") == scratch.sentence
    assert full.speaks_against is scratch.speaks_against is True


def test_too_few_test_items_are_a_reason_only_where_a_gain_was_found_but_not_shown():
    unseen = answer(told(full=122, scratch=120), "Are there too few test items")
    assert unseen.speaks_against
    assert "too small to see" in unseen.sentence
    assert "no gain was found" in answer(told(full=120, scratch=120), "Are there too few test items").sentence
    assert not any(question.startswith("Are there too few test items") for question in told())


@pytest.fixture(scope="module")
def source() -> ModelBundle:
    """A convnet whose batch norms have seen smooth pictures."""
    torch.manual_seed(0)
    samples = smooth(0)
    network = build_network("convnet", classes=2, channels=1)
    bundle = ModelBundle(network, "convnet", "image", Preprocessing.fit(samples, 32, 1), ("a", "b"))
    network.train()
    with torch.no_grad():
        for _ in range(60):
            network(bundle.preprocessing(torch.from_numpy(samples)))
    network.eval()
    return bundle


def smooth(seed):
    coarse = torch.from_numpy(np.random.default_rng(seed).uniform(0, 255, (64, 1, 4, 4)))
    fine = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear")
    return fine.permute(0, 2, 3, 1).numpy().astype(np.uint8)


def test_the_distance_grows_with_how_different_pictures_are_from_those_of_the_source(source):
    noise = np.random.default_rng(1).integers(0, 256, (64, 32, 32, 1), dtype=np.uint8)
    others = smooth(1)
    alike, faint, far = (source_distance(source, each) for each in (others, others // 4, noise))
    assert 0 <= alike < 0.02
    assert 5 * alike < faint < 1
    assert 5 * alike < far < 1


def test_the_distance_does_not_depend_on_how_the_samples_are_cut_into_batches(source, monkeypatch):
    samples = smooth(2)
    whole = source_distance(source, samples)
    predict = source.predict_features
    monkeypatch.setattr(source, "predict_features", lambda seen: predict(seen, batch_size=10), raising=False)
    assert source_distance(source, samples) == pytest.approx(whole, rel=1e-4)


def test_the_squared_hellinger_distance_is_that_of_two_normal_distributions(source):
    class Norm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(1)

        def forward(self, x):
            return self.norm(x).mean(dim=(2, 3))

    from headstart.models.network import Network

    stage = Norm()
    with torch.no_grad():
        stage.norm.running_mean.fill_(0.2)
        stage.norm.running_var.fill_(0.01)
        stage.norm.num_batches_tracked.fill_(1)
    bundle = ModelBundle(
        Network([stage], torch.nn.Linear(1, 2)), "none", "image", Preprocessing(8, 1, (0.0,), (1.0,)), ("a", "b")
    )
    samples = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), dtype=np.uint8)
    values = samples / 255
    points = np.linspace(-2, 3, 200_001)

    def density(mean, variance):
        return np.exp(-((points - mean) ** 2) / (2 * variance)) / np.sqrt(2 * np.pi * variance)

    overlap = np.sqrt(density(0.2, 0.01) * density(values.mean(), values.var())).sum() * (points[1] - points[0])
    assert source_distance(bundle, samples) == pytest.approx(1 - overlap, abs=1e-4)


def test_a_network_that_has_never_seen_data_has_no_distance():
    network = build_network("convnet", classes=2, channels=1)
    bundle = ModelBundle(network, "convnet", "image", Preprocessing(32, 1, (0.5,), (0.2,)), ("a", "b"))
    assert source_distance(bundle, smooth(0)) is None
