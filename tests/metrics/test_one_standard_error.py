import numpy as np

from headstart.metrics.calibration import calibrated_losses
from headstart.metrics.one_standard_error import beats

LABELS = np.arange(40) % 2


def logits(right: int, *, sure: float = 2.0) -> np.ndarray:
    """Logits (40, 2) that name the class of the first `right` samples and are wrong, and less sure, on the others."""
    sign = np.where(np.arange(40) < right, sure, -sure / 4)
    return np.where(LABELS[:, None] == [0, 1], sign[:, None], -sign[:, None])


def test_a_model_that_is_clearly_better_beats_the_simpler_one_and_not_the_other_way_round():
    assert beats(logits(36), logits(20), LABELS)
    assert not beats(logits(20), logits(36), LABELS)


def test_two_items_gained_and_one_lost_are_noise():
    other = logits(32)
    other[0] *= -1
    assert (other.argmax(1) == LABELS).sum() == (logits(30).argmax(1) == LABELS).sum() + 1
    assert not beats(other, logits(30), LABELS)


def test_the_same_answers_with_better_probabilities_beat_the_simpler_model():
    rng = np.random.default_rng(0)
    noisy = logits(36) * rng.uniform(0.2, 3, (40, 1))
    assert (noisy.argmax(1) == logits(36).argmax(1)).all()
    assert beats(logits(36), noisy, LABELS)
    # But not a scale, which calibration takes away.
    assert not beats(logits(36), 10 * logits(36), LABELS)


def test_without_samples_nothing_beats_the_simpler_model():
    assert not beats(logits(36)[:0], logits(20)[:0], LABELS[:0])
    assert not beats(logits(36)[:1], logits(20)[:1], LABELS[:1])


def test_the_log_loss_is_that_of_the_calibrated_probabilities():
    at_two = calibrated_losses(logits(30), LABELS)
    assert np.allclose(at_two, calibrated_losses(7 * logits(30), LABELS), atol=1e-3)
    assert at_two.shape == (40,)


def test_copies_of_few_items_do_not_speak_for_a_model():
    """One group in four is better, in ten copies each."""
    better = np.where(np.arange(40)[:, None] < 10, logits(40), logits(0))
    groups = np.repeat(["a", "b", "c", "d"], 10)
    assert beats(better, logits(0), LABELS)
    assert not beats(better, logits(0), LABELS, groups)
    # An item alone is a group of one.
    assert beats(better, logits(0), LABELS, np.full(40, ""))
