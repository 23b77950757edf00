"""The classical baseline for several labels: the best of scikit-learn's classifiers, one for each label."""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.folds import repeated_folds
from headstart.data.labelled import LabelledDataset
from headstart.data.subsets import spread_out
from headstart.metrics.groups import group_numbers
from headstart.metrics.predictions import Predictions
from headstart.metrics.tally import score
from headstart.models.classical import converted_labels
from headstart.strategies.baselines._classical_bundle import classical_bundle
from headstart.strategies.baselines._descriptors import described
from headstart.training.context import RunContext
from headstart.training.trained import Trained

# Settings are searched on at most so many samples: a support vector machine's time grows with their square.
_SEARCHED = 3000
_LINEAR, _KERNEL = (0.001, 0.01, 0.1, 1.0), (1.0, 10.0)


def fit_labels(dataset: Dataset, context: RunContext) -> Trained:
    """The best of logistic regression and RBF support vector machines, one for each label, on each kind of descriptors
    of all labelled samples.

    The grid is searched for the best metric by cross-validation, on 3000 samples at most, repeated as that of heads is.
    Its first repeat also calibrates the best, which is then fitted to all, and kept as a bundle of tensors. A label
    that all of the samples of a fit have, or none, has a constant score there.
    """
    start = time.perf_counter()
    labelled = (LabelledDataset(dataset) if context.refit else dataset).split("train")
    labels = labelled.labels
    parts = described(labelled.samples, dataset.kind, dataset.given)
    chosen = spread_out(labels, _SEARCHED)
    groups = group_numbers(labelled.groups[chosen])
    folds, repeated = repeated_folds(labels[chosen], seed=context.seed, groups=groups)
    held_out = chosen[np.concatenate([fold for _, fold in repeated])] if folds else chosen[:0]
    rows = held_out[: sum(len(fold) for _, fold in folds)]
    best, merit, logits = (list(parts)[-1], "svc", 1.0), -math.inf, np.empty((0, labels.shape[1]))
    for name, machine, strength in _grid(list(parts)) if folds else ():
        found = np.concatenate(
            [
                _scores(machine, strength, parts[name][chosen[kept]], labels[chosen[kept]], parts[name][chosen[fold]])
                for kept, fold in repeated
            ]
        )
        reached = score(context.metric, labels[held_out], found, labels.shape[1])
        if reached > merit:
            best, merit, logits = (name, machine, strength), reached, found[: len(rows)]
    name, machine, strength = best
    models = _fitted(machine, strength, parts[name], labels)
    architecture, network = converted_labels(machine, models, parts[name].shape[1], dataset.kind, name)
    bundle = classical_bundle(architecture, network, dataset, context)
    bundle.calibrate(logits, labels[rows], labelled.groups[rows])
    outputs = bundle.kind.outputs(logits, bundle.calibration)
    return Trained(
        bundle,
        validation=score(context.metric, labels[rows], logits, labels.shape[1]) if folds else math.nan,
        seconds=time.perf_counter() - start,
        params={
            "model": {"logistic": "LogisticRegression", "svc": "SVC"}[best[1]],
            "features": best[0],
            "C": best[2],
            "temperature": bundle.temperature,
            "labels": len(labels),
        },
        held_out=Predictions(
            labelled.ids[rows], labels[rows], outputs, dataset.classes, labelled.groups[rows], dataset.task
        )
        if folds
        else None,
    )


def _grid(names: Sequence[str]) -> Iterator[tuple[str, str, float]]:
    """The kind of descriptors, the machine and its C; simpler ones first."""
    for name in names:
        yield from ((name, "logistic", strength) for strength in _LINEAR)
        yield from ((name, "svc", strength) for strength in _KERNEL)


def _scores(machine: str, strength: float, features: np.ndarray, labels: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The scores (M, K) of other samples by a machine for each label, fitted to the samples whose label is known."""
    fitted = _fitted(machine, strength, features, labels)
    scores = [
        np.full(len(others), each) if isinstance(each, float) else each.decision_function(others) for each in fitted
    ]
    return np.stack(scores, axis=1)


def _fitted(machine: str, strength: float, features: np.ndarray, labels: np.ndarray) -> list[Any]:
    """The machine of each label; a constant score where all samples have it, or none."""
    # The kernel's width of scikit-learn's "scale", the same for all labels.
    width = 1 / (features.shape[1] * (float(features.var()) or 1.0))
    return [_machine(machine, strength, width, features[marks >= 0], marks[marks >= 0]) for marks in labels.T]


def _machine(machine: str, strength: float, width: float, features: np.ndarray, has: np.ndarray) -> Any:
    from sklearn.decomposition import PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    if len(np.unique(has)) < 2:
        count, total = int((has == 1).sum()), len(has)
        return math.log((count + 0.5) / (total - count + 0.5))
    if machine == "svc":
        return SVC(C=strength, gamma=width).fit(features, has)
    # A linear model is the same along all axes that the samples span, which are fewer where the samples are few.
    turned = [PCA(svd_solver="full")] if len(features) < features.shape[1] else []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), *turned, LogisticRegression(C=strength, max_iter=1000)).fit(
            features, has
        )
