"""Reports on models that never were, for the tests of the page."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from headstart.judging.assessment import Assessment
from headstart.judging.data_efficiency import Curve, Point, Series
from headstart.judging.diagnostics import Diagnostics
from headstart.judging.explanation import Explained, Neighbour, Sample
from headstart.judging.leaderboard import build_leaderboard
from headstart.judging.reasons import Fitted, Probe, reasons
from headstart.judging.reliability import reliability_bins, selective_prediction
from headstart.judging.report.judgement import Judgement
from headstart.judging.report.page import render_report
from headstart.judging.robustness import Corrupted, Robustness
from headstart.judging.section import Evaluation
from headstart.metrics.bootstrap import metric_intervals
from headstart.metrics.classification import classification_metrics
from headstart.metrics.wilson import class_intervals, wilson_interval
from headstart.modalities.image.showing import as_html
from tests.judging.boards import candidate_of

CURVE = Curve(
    "accuracy",
    (
        Series("probe on the source", "transfer", (Point(5, (0.6, 0.7, 0.65)), Point(20, (0.8, 0.82, 0.81)))),
        Series("classical", "baseline", (Point(5, (0.4, 0.5, 0.45)), Point(20, (0.81, 0.83, 0.85)))),
    ),
    1.5,
)


def diagnostics(board, labels, probabilities, names, **changes):
    """What diagnosing a model with these predictions could have found."""
    picture = as_html(np.zeros((4, 4, 1), dtype=np.uint8), "a picture")
    sample = Sample(picture, picture, names[0], names[1], 0.1, 0.8, (Neighbour(picture, names[1], 0.97),))
    robust = Robustness(
        50, wilson_interval(45, 50), (Corrupted("blur", tuple(wilson_interval(n, 50) for n in (40, 30, 20))),)
    )
    fields = {
        "intervals": metric_intervals(labels, probabilities, resamples=100),
        "classes": tuple(class_intervals(labels, probabilities.argmax(axis=1), names)),
        "reasons": tuple(
            reasons(
                board, probe=Probe(0.8, 0.02, 0.5, 0.03), distance=0.03, fitted=[Fitted("full", 1.0, 0.8)], curve=CURVE
            )
        ),
        "bins": tuple(reliability_bins(labels, probabilities)),
        "temperature": 1.3,
        "selective": selective_prediction(labels, probabilities),
        "robustness": robust,
        "scratch_robustness": robust,
        "curve": CURVE,
        "explained": Explained("Grad-CAM", 0.1, True, (sample,), (sample,)),
    }
    return Diagnostics(**(fields | changes))


def report(*, names=("cat", "dog", "eel"), scratch=0.6, full=0.85, baseline=True, classical=None, items=600, **changes):
    K = len(names)
    generator = np.random.default_rng(0)
    labels = generator.integers(0, K, size=items)
    order = generator.random(items)

    def candidate(strategy, kind, share, validation):
        predictions = np.where(order < share, labels, (labels + 1) % K)
        return candidate_of(strategy, kind, labels, np.eye(K)[predictions], validation)

    candidates = [candidate("full", "transfer", full, 0.8), candidate("zero", "transfer", 0.3, 0.2)]
    if baseline:
        candidates.append(candidate("scratch", "baseline", scratch, 0.4))
    if classical:
        candidates.append(candidate("classical", "baseline", classical, 0.5))
    board = build_leaderboard(candidates, Evaluation(**changes.pop("board", {})))
    epochs = [
        {"epoch": n, "train/loss": 2 / n, "val/loss": 2.2 / n, "val/accuracy": 0.9 - 0.5 / n} for n in range(1, 6)
    ]
    probabilities = candidates[0].predictions.probabilities
    board = replace(board, facts=changes.pop("facts", {}))
    assessment = Assessment(
        board,
        {board.chosen.strategy: classification_metrics(labels, probabilities, names)},
        tuple(each.contender for each in candidates),
        Path(),
        changes.pop("history", {"full": epochs, "scratch": epochs[:1]}),
        changes.pop("kept", {"full": 5, "scratch": 1}),
        changes.pop("savings", {}),
    )
    arguments = {
        "data": {"reference": "data/digits", "classes": K, "test items": 12345, "group": None},
        "lineage": {"source model": "models:/digits-source/3"},
        "reproduction": "headstart run digits.yaml --set seed=0",
    }
    found = diagnostics(board, labels, probabilities, names, **changes.pop("examined", {}))
    return render_report(Judgement("digits", assessment, found, **(arguments | changes)))
