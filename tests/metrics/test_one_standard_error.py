import numpy as np

from headstart.metrics.task import SINGLE_LABEL, TASKS

LABELS = np.arange(40) % 2
beats = TASKS[SINGLE_LABEL].beats


def chances(right: int, *, sure: float = 0.9) -> np.ndarray:
    """Probabilities (40, 2) that name the class of the first `right` samples and are wrong, and less sure, on the
    others."""
    given = np.where(np.arange(40) < right, sure, 0.45)
    return np.where(LABELS[:, None] == [0, 1], given[:, None], 1 - given[:, None])


def test_a_model_that_is_clearly_better_beats_the_simpler_one_and_not_the_other_way_round():
    assert beats(chances(36), chances(20), LABELS)
    assert not beats(chances(20), chances(36), LABELS)


def test_two_items_gained_and_one_lost_are_noise():
    other = chances(32)
    other[0] = other[0, ::-1]
    assert (other.argmax(1) == LABELS).sum() == (chances(30).argmax(1) == LABELS).sum() + 1
    assert not beats(other, chances(30), LABELS)


def test_the_same_answers_with_better_probabilities_beat_the_simpler_model():
    doubtful = 0.7 * chances(36) + 0.3 * 0.5
    assert (doubtful.argmax(1) == chances(36).argmax(1)).all()
    assert beats(chances(36), doubtful, LABELS)
    assert not beats(doubtful, chances(36), LABELS)


def test_without_samples_nothing_beats_the_simpler_model():
    assert not beats(chances(36)[:0], chances(20)[:0], LABELS[:0])
    assert not beats(chances(36)[:1], chances(20)[:1], LABELS[:1])


def test_copies_of_few_items_do_not_speak_for_a_model():
    """One group in four is better and one a little worse, in ten copies each."""
    better = np.where(np.arange(40)[:, None] < 10, chances(40), chances(0))
    better[10:20] = 0.9 * better[10:20] + 0.1 * (1 - np.eye(2)[LABELS[10:20]])
    groups = np.repeat(["a", "b", "c", "d"], 10)
    assert beats(better, chances(0), LABELS)
    assert not beats(better, chances(0), LABELS, groups)
    # An item alone is a group of one.
    assert beats(better, chances(0), LABELS, np.full(40, ""))
