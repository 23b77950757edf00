"""What every task's outputs have in common."""

import numpy as np
import pytest

from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS, Calibration

LOGITS = np.random.default_rng(0).normal(0, 4, (50, 3))
CALIBRATIONS = {
    SINGLE_LABEL: Calibration(2.5),
    MULTI_LABEL: Calibration(2.5, thresholds=(0.2, 0.5, 0.7)),
    REGRESSION: Calibration(0.5, margin=1.0),
}


@pytest.mark.parametrize("task", CALIBRATIONS)
def test_outputs_tell_logits_that_have_the_same_outputs(task):
    kind, calibration = TASKS[task], CALIBRATIONS[task]
    outputs = kind.outputs(LOGITS, calibration)
    assert np.allclose(kind.outputs(kind.logits(outputs, calibration), calibration), outputs, atol=1e-6)


@pytest.mark.parametrize("task", [SINGLE_LABEL, MULTI_LABEL])
def test_a_probability_of_0_has_a_logit_too(task):
    kind = TASKS[task]
    outputs = kind.outputs(1000 * LOGITS, Calibration())
    assert np.isfinite(kind.logits(outputs, Calibration())).all()
