"""Is the lower bound of a target's gain over the best baseline high enough?"""

from headstart.metrics.metric import metric_title
from headstart.tracking.gate import Case, Gate, Measured, at_least
from headstart.tracking.gates.min_gain import GAIN, recorded_gain


def _lower_bound(case: Case) -> Measured:
    value = recorded_gain(case, "_low")
    return value, f"lower bound of the gain over the best baseline in {metric_title(case.evidence.metric)}"


GATE = Gate(GAIN, None, "the gain's lower bound", at_least(_lower_bound), place=21)
