"""Are its probabilities calibrated?"""

from headstart.metrics.calibration import expected_calibration_error
from headstart.metrics.task import SINGLE_LABEL
from headstart.sections import Share
from headstart.tracking.gate import Case, Gate, Measured, NotAsked, at_most


def _calibration_error(case: Case) -> Measured:
    test = case.labelled_test
    if test.task != SINGLE_LABEL:
        raise NotAsked(f"its task is {test.task}")
    value = expected_calibration_error(test.labels, test.probabilities)
    return value, "expected calibration error on the test split"


GATE = Gate(Share | None, None, "calibration error", at_most(_calibration_error), place=40)
