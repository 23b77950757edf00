"""Does it tell few enough classes apart?"""

from headstart.tracking.gate import Case, Gate, Measured, at_most


def _classes(case: Case) -> Measured:
    return len(case.labelled_test.classes), "classes"


GATE = Gate(int | None, None, "classes of the model", at_most(_classes))
