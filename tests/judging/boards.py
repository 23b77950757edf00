"""Contenders with predictions that were never made, for the tests of the leaderboard and of what reads it."""

from pathlib import Path

import numpy as np

from headstart.judging.contenders import Candidate, Contender
from headstart.metrics.predictions import Predictions


def candidate_of(
    strategy,
    kind,
    labels,
    probabilities,
    validation=0.5,
    *,
    ids=None,
    seconds=75.0,
    run_id="",
    source=None,
    groups=None,
):
    """A contender that gives the items with labels (N,) these probabilities (N, K)."""
    if source is None and kind == "transfer":
        source = "models:/digits-source/3#sha256=abc"
    contender = Contender(strategy, kind, Path(), validation, seconds, run_id, source)
    ids = np.arange(len(labels)).astype(str) if ids is None else ids
    classes = tuple(map(str, range(probabilities.shape[1])))
    return Candidate(contender, Predictions(ids, labels, probabilities, classes, groups))
