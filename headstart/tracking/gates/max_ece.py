"""Are its probabilities calibrated?"""

from headstart.metrics.calibration import expected_calibration_error
from headstart.sections import Share
from headstart.tracking.gate import Case, Gate, Measured, at_most


def _calibration_error(case: Case) -> Measured:
    test = case.labelled_test
    value = expected_calibration_error(test.labels, test.probabilities)
    return value, "expected calibration error on the test split"


GATE = Gate(Share | None, None, "calibration error", at_most(_calibration_error), place=40)
