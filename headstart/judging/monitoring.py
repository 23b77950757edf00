"""Monitoring: does a model that is in use still meet what it was tested on, and is it still as good?

New samples are compared with test samples, not with training samples: a network knows those, so that their features
differ from any others, drift or not.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from headstart.data.dataset import Dataset, Split, label_values
from headstart.data.listing import LABELS_OF_TASKS, Labels
from headstart.data.reference import has_no_labels
from headstart.errors import InputError
from headstart.figures import figure
from headstart.judging.kept_predictions import features_at
from headstart.judging.reading import BATCH, read_samples
from headstart.metrics.bootstrap import bootstrap_interval
from headstart.metrics.intervals import Interval, normal_quantile
from headstart.metrics.metric import METRICS, metric_title
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, TASKS
from headstart.models.bundle import ModelBundle
from headstart.storage import state as storage

State = Literal["as before", "drifted", "worse"]

# Fewer tell nothing: the classifier learns from half of them.
LEAST = 20
# A classifier that tells new samples from old ones this much better than chance sees a difference that matters; any
# difference is beyond chance once there are enough samples.
TOLERANCE = 0.1
_MOST = 2000
_PERMUTATIONS = 500
_RESAMPLES = 100
_EM_STEPS = 200


@dataclass(frozen=True, eq=False)
class Observed:
    """What a model makes of samples: features float32 (N, D), and outputs and labels as its task has them
    (headstart/metrics/task.py), labels None where they are not known; `refused` samples could not be read."""

    features: np.ndarray
    outputs: np.ndarray
    labels: np.ndarray | None
    refused: int = 0
    task: str = SINGLE_LABEL

    def __len__(self) -> int:
        return len(self.features)


@dataclass(frozen=True)
class Share:
    """The share of a class among old and new samples, estimated in the same way; of a label its mean probability, of
    numbers the mean of the predictions in the target's unit."""

    name: str
    before: float
    now: Interval


@dataclass(frozen=True)
class Monitoring:
    """The comparison of new samples with those that a model was tested on."""

    state: State
    sentence: str
    samples: int
    refused: int
    auc: Interval
    """of a classifier that tells new samples from old ones by their features: 0.5 is chance"""
    distance: float
    """the squared maximum mean discrepancy of the features, in units of the kernel: 0 to 1"""
    distance_p: float
    """how often a distance as large arises where nothing changed"""
    classes: tuple[Share, ...]
    metric: str
    promised: Interval | None
    measured: Interval | None
    """the metric on the new samples; None where they have no labels"""
    run_id: str | None = None
    """the run that records it; None for one that is not recorded"""
    task: str = SINGLE_LABEL

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""

        def ends(interval: Interval | None) -> list[float] | None:
            return None if interval is None else interval.to_list()

        return {
            "state": self.state,
            "sentence": self.sentence,
            "samples": self.samples,
            "refused": self.refused,
            "auc": ends(self.auc),
            "distance": self.distance,
            "distance_p": self.distance_p,
            "classes": [{"name": each.name, "before": each.before, "now": ends(each.now)} for each in self.classes],
            "metric": self.metric,
            "promised": ends(self.promised),
            "measured": ends(self.measured),
        }


def observe(bundle: ModelBundle, uri: str) -> Observed:
    """Return what a model makes of the samples at `uri`, with labels where the reference gives them.

    Raises:
        InputError: the reference cannot be read, holds no readable sample, or has a class that the model does not know.
    """
    wanted: Labels = "optional"
    if bundle.task in LABELS_OF_TASKS:
        unlabelled = has_no_labels(uri, modality_name=bundle.modality)
        wanted = "none" if unlabelled else LABELS_OF_TASKS[bundle.task]
    features, given, refused = [], [], 0
    for read in read_samples(bundle, uri, wanted):
        refused += read.refused
        if read.values:
            features.append(bundle.predict_features(read.values, BATCH))
            given += [file.label or "" for file in read.files]
    labels = label_values(given, bundle.classes, bundle.task) if all(given) else None
    return _observed(bundle, np.concatenate(features), labels, refused)


def features_to_keep(bundle: ModelBundle, dataset: Dataset, state: storage.State | None) -> np.ndarray | None:
    """Return the features float32 (M, D) of the test samples that new ones will be compared with: all, or 2,000 in
    equal steps. None if the model's task is not monitored.

    Kept with the model, they make the comparison possible wherever the packed data set is not. `state` may have them.
    """
    if not bundle.classes:
        return None
    return features_at(bundle, dataset, _rows_to_keep(len(dataset.split("test").labels)), state)


def observe_kept(bundle: ModelBundle, features: np.ndarray, labels: np.ndarray) -> Observed:
    """Return what a model made of the test samples whose `features_to_keep` are given; `labels` (N,) are those of the
    whole test split.

    Raises:
        InputError: they do not belong together.
    """
    rows = _rows_to_keep(len(labels))
    if features.shape != (len(rows), bundle.network.feature_dim):
        raise InputError("The features that were kept are not those of this model's test; run its recipe again.")
    return _observed(bundle, features, labels[rows], 0)


def observe_split(bundle: ModelBundle, split: Split, classes: Sequence[str]) -> Observed:
    """Return what a model makes of a packed split, whose labels are indices into `classes`.

    Raises:
        InputError: the classes are not those of the model.
    """
    if tuple(classes) != bundle.classes:
        raise InputError("The packed data set has other classes than the model; give the one that it was tested on.")
    return _observed(bundle, bundle.predict_features(split.samples, BATCH), split.labels, 0)


def check_tolerance(tolerance: float) -> None:
    """InputError if the tolerance is not from 0 to below 0.5."""
    if not 0 <= tolerance < 0.5:
        raise InputError(f"The tolerance is {tolerance:g}; give a number from 0 to below 0.5.")


def monitor(
    old: Observed,
    new: Observed,
    classes: Sequence[str],
    *,
    metric: str = "accuracy",
    promised: Interval | None = None,
    tolerance: float = TOLERANCE,
    seed: int = 0,
) -> Monitoring:
    """Compare new samples with those that a model was tested on.

    `worse`: the metric on the new labels is worse than the promised one by more than both intervals explain (Newcombe
    1998, square and add). `drifted`: a classifier tells new from old samples with an area under its curve whose
    interval lies above 0.5 + `tolerance` (Lopez-Paz and Oquab 2017, "Revisiting classifier two-sample tests"). Else
    `as before`.

    Raises:
        InputError: there are fewer than 20 samples on a side, the old ones have no labels, or the tolerance is not from
            0 to 0.5.
    """
    if old.labels is None:
        raise InputError("The samples that the model was tested on have no labels; give the test split.")
    check_tolerance(tolerance)
    if min(len(old), len(new)) < LEAST:
        raise InputError(
            f"{len(new)} new samples and {len(old)} that the model was tested on are too few to compare; take {LEAST} "
            "or more of each."
        )
    generator = np.random.default_rng(seed)
    before, now = (_standardised(each, old.features) for each in (_drawn(old, generator), _drawn(new, generator)))
    auc = _told_apart(before, now, generator)
    distance, distance_p = _discrepancy(before, now, generator)
    measured = None
    if new.labels is not None:
        measured = bootstrap_interval(metric, new.labels, TASKS[new.task].predicted(new.outputs), len(classes))
    is_worse = measured is not None and promised is not None and _is_worse(metric, measured, promised)
    state: State = "worse" if is_worse else "drifted" if auc.low > 0.5 + tolerance else "as before"
    shares = _estimates(old.labels, old, new, classes, generator)
    return Monitoring(
        state=state,
        sentence=_sentence(state, auc, _moved(shares, new.task), metric, measured, promised, len(new)),
        samples=len(new),
        refused=new.refused,
        auc=auc,
        distance=distance,
        distance_p=distance_p,
        classes=shares,
        metric=metric,
        promised=promised,
        measured=measured,
        task=new.task,
    )


def _rows_to_keep(count: int) -> np.ndarray:
    return np.linspace(0, count - 1, min(count, _MOST)).round().astype(np.int64)


def _observed(bundle: ModelBundle, features: np.ndarray, labels: np.ndarray | None, refused: int) -> Observed:
    return Observed(features, bundle.outputs_of(features), labels, refused, bundle.task)


def _drawn(observed: Observed, generator: np.random.Generator) -> np.ndarray:
    """At most 2,000 of the features, in random order."""
    return observed.features[generator.permutation(len(observed))[:_MOST]]


def _standardised(features: np.ndarray, by: np.ndarray) -> np.ndarray:
    spread = by.std(axis=0)
    return (features - by.mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def _told_apart(before: np.ndarray, now: np.ndarray, generator: np.random.Generator) -> Interval:
    """The area under the curve of a logistic regression that learns to tell half of each side apart, on the other
    half, with its 95 % interval (Hanley and McNeil 1982)."""
    from scipy.stats import rankdata
    from sklearn.linear_model import LogisticRegression

    (learn_old, test_old), (learn_new, test_new) = (np.array_split(each, 2) for each in (before, now))
    model = LogisticRegression(C=0.01, class_weight="balanced", max_iter=500)
    model.fit(np.concatenate([learn_old, learn_new]), np.repeat([0, 1], [len(learn_old), len(learn_new)]))
    scores = model.decision_function(np.concatenate([test_new, test_old]))
    n, m = len(test_new), len(test_old)
    area = float((rankdata(scores)[:n].sum() - n * (n + 1) / 2) / (n * m))
    pairs = (n - 1) * (area / (2 - area) - area**2) + (m - 1) * (2 * area**2 / (1 + area) - area**2)
    half = normal_quantile(0.95) * float(np.sqrt(max(0.0, area * (1 - area) + pairs) / (n * m)))
    # Where no pair is out of order, the formula knows no error.
    half = max(half, 3 / (2 * min(n, m)) if area in (0.0, 1.0) else 0.0)
    return Interval(area, max(0.0, area - half), min(1.0, area + half))


def _discrepancy(before: np.ndarray, now: np.ndarray, generator: np.random.Generator) -> tuple[float, float]:
    """The squared maximum mean discrepancy with a Gaussian kernel of the median distance, and the share of random
    divisions with one as large (Gretton et al. 2012, "A kernel two-sample test")."""
    from scipy.spatial.distance import pdist, squareform

    most = _MOST // 4
    both = np.concatenate([before[:most], now[:most]])
    squares = pdist(both, "sqeuclidean")
    kernel = np.exp(-squareform(squares) / max(float(np.median(squares)), 1e-12))
    n, m = len(before[:most]), len(now[:most])

    def value(order: np.ndarray) -> float:
        sign = np.empty(n + m)
        sign[order[:n]], sign[order[n:]] = 1 / n, -1 / m
        return float(sign @ kernel @ sign)

    found = value(np.arange(n + m))
    chance = [value(generator.permutation(n + m)) for _ in range(_PERMUTATIONS)]
    return found, (1 + sum(each >= found for each in chance)) / (1 + _PERMUTATIONS)


def _estimates(
    labels: np.ndarray, old: Observed, new: Observed, classes: Sequence[str], generator: np.random.Generator
) -> tuple[Share, ...]:
    """The share of each class among old samples, whose `labels` are given, and new ones; of labels and of numbers the
    mean of what is predicted. A label that the model hardly tells would move a share that is fitted as those of classes
    are to 0 or 1."""
    if new.task not in (MULTI_LABEL, REGRESSION):
        return _shares(labels, old.outputs, new.outputs, classes, generator)
    of_numbers = new.task == REGRESSION
    before, now = (each.outputs[:, :1] if of_numbers else each.outputs[:, :, 0] for each in (old, new))
    drawn = np.stack([now[rows].mean(axis=0) for rows in _rows(len(now), generator)])
    ends = np.quantile(drawn, (0.025, 0.975), axis=0)
    return tuple(
        Share(name, float(was), Interval(float(is_now), float(low), float(high)))
        for name, was, is_now, low, high in zip(
            ("mean prediction",) if of_numbers else classes, before.mean(axis=0), now.mean(axis=0), *ends, strict=True
        )
    )


def _shares(
    labels: np.ndarray,
    old: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str],
    generator: np.random.Generator,
) -> tuple[Share, ...]:
    """The share of each class among old and new samples by their calibrated probabilities (Saerens, Latinne and
    Decaestecker 2002), with the 95 % interval of resampled new samples. Both are estimated, so that what the model
    mistakes for another class counts on either side. It holds where classes look as before and only their shares
    change."""
    counts = np.bincount(labels, minlength=len(classes)).astype(np.float64)
    prior = np.maximum(counts / counts.sum(), 1e-9)
    before = _priors(old, prior)
    value = _priors(probabilities, prior)
    drawn = np.stack([_priors(probabilities[rows], prior) for rows in _rows(len(probabilities), generator)])
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    return tuple(
        Share(name, float(was), Interval(float(is_now), float(min(least, is_now)), float(max(most, is_now))))
        for name, was, is_now, least, most in zip(classes, before, value, low, high, strict=True)
    )


def _rows(count: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    for _ in range(_RESAMPLES):
        yield generator.integers(0, count, min(count, _MOST))


def _priors(probabilities: np.ndarray, prior: np.ndarray) -> np.ndarray:
    """The class shares (K,) by expectation maximisation, of probabilities (N, K) under the shares `prior`."""
    now = prior
    for _ in range(_EM_STEPS):
        weighed = probabilities * (now / prior)
        nearer = (weighed / np.maximum(weighed.sum(axis=1, keepdims=True), 1e-12)).mean(axis=0)
        moved = float(np.abs(nearer - now).max())
        now = nearer
        if moved < 1e-4:
            break
    return now


def _is_worse(metric: str, measured: Interval, promised: Interval) -> bool:
    """Whether the metric is worse than promised by more than both intervals explain."""
    if metric in METRICS and METRICS[metric].lower_is_better:
        measured, promised = (Interval(-each.value, -each.high, -each.low) for each in (measured, promised))
    reach = np.hypot(measured.high - measured.value, promised.value - promised.low)
    return bool(measured.value - promised.value + reach < 0)


def _moved(shares: Sequence[Share], task: str) -> str:
    """What is estimated to have changed most, as a clause; "" where nothing has."""
    moved = [each for each in shares if not each.now.low <= each.before <= each.now.high]
    if not moved:
        return ""
    most = max(moved, key=lambda each: abs(each.now.value - each.before))
    if task == REGRESSION:
        return f"; the {most.name} is {figure(most.now.value)}, {figure(most.before)} before"
    if task == MULTI_LABEL:
        return f"; the mean probability of '{most.name}' is {figure(most.now.value)}, {figure(most.before)} before"
    return f"; '{most.name}' is estimated at {most.now.value:.0%} of the samples, {most.before:.0%} before"


def _sentence(
    state: State,
    auc: Interval,
    moved: str,
    metric: str,
    measured: Interval | None,
    promised: Interval | None,
    count: int,
) -> str:
    said = (
        f"{state}: a classifier tells {count:,} new samples from those of the test with an area under the curve of "
        f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}], where 0.5 is chance"
    )
    if measured is not None:
        against = f" against {_told(promised)}" if promised else ""
        said += f"; {metric_title(metric)} is {_told(measured)}{against} when it was registered"
    return f"{said}{moved}."


def _told(interval: Interval) -> str:
    return f"{figure(interval.value)} [{figure(interval.low)}, {figure(interval.high)}]"
