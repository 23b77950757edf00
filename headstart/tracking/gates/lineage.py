"""Are its digests, its evidence and its sources there, and do they agree?"""

from headstart.tracking.gate import Case, Gate, Measured, without


def _gaps(case: Case) -> Measured:
    gaps = case.challenger.gaps
    if case.challenger.unknown and not gaps:
        raise case.unknown_training_data("digests and evidence agree")
    return float(len(gaps)), "; ".join(gaps) or "digests, evidence and sources are there and agree"


GATE = Gate(bool, True, "digests, evidence and sources are there and agree", without(_gaps), place=70)
