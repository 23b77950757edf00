"""What holds for the corruptions of every modality."""

import numpy as np

from headstart.judging.robustness import SEVERITIES
from headstart.modalities.corruption import Corruption


def assert_heavier_each_time(corruption: Corruption, samples: np.ndarray) -> None:
    """The samples are further from what they were at each severity, the same every time, and left as they are."""
    before = samples.copy()
    found = [corruption.apply(samples, severity) for severity in SEVERITIES]
    for severity, each in zip(SEVERITIES, found, strict=True):
        assert (each.shape, each.dtype) == (samples.shape, np.uint8)
        assert np.array_equal(each, corruption.apply(samples, severity))
    distances = [np.abs(each.astype(float) - samples).mean() for each in found]
    assert 0 < distances[0] < distances[1] < distances[2]
    assert np.array_equal(samples, before)
