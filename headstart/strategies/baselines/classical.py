"""classical: the best of several scikit-learn models on what a modality computes of its samples without learning."""

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstart.data.dataset import Dataset, Samples, Split
from headstart.data.folds import repeated_folds, stratified_folds
from headstart.data.labelled import LabelledDataset
from headstart.data.subsets import spread_out, with_every_class
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.groups import group_numbers
from headstart.metrics.predictions import Predictions
from headstart.metrics.tally import score
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.modalities import Modality
from headstart.models.bundle import ModelBundle
from headstart.models.classical import LEAST, converted, linear, lost_margins
from headstart.sections import Section
from headstart.strategies.baseline import Baseline, Like
from headstart.strategies.baselines._classical_bundle import classical_bundle
from headstart.strategies.baselines._classical_labels import fit_labels
from headstart.strategies.baselines._classical_numbers import fit_numbers
from headstart.strategies.baselines._descriptors import columns_of, described, only
from headstart.strategies.baselines._kernel_machine import cross_validated, predicted
from headstart.training.context import RunContext
from headstart.training.held_out import judging_rows
from headstart.training.section import Training
from headstart.training.trained import Trained

if TYPE_CHECKING:
    from headstart.features.narrowed import Narrowed

log = logging.getLogger(__name__)

# Settings are searched on at most so many samples: a support vector machine's time grows with their square.
_SEARCHED = 3000
_MOST_FOR_MACHINES = 2000
# A random forest of fewer samples was the best machine in 3 of 42 draws with two and five labels a class, the worst one
# on average, and takes longer than the whole search without it.
_LEAST_FOR_FOREST = 200
# One is fitted to each pair of classes, and each leaf of a forest holds a number for each class: of 1000 classes both
# take hours and tens of gigabytes.
_MOST_CLASSES_FOR_MACHINES = 100


def fit_classical(like: Like | None, dataset: Dataset, training: Training | None, context: RunContext) -> Trained:
    """The best of logistic regression, RBF support vector machine and, of 200 samples or more, random forest on the
    first kind of descriptors that the modality has of all labelled samples, for pictures their pixels, and of the first
    two on the others, histograms of gradients.

    The grid is searched for the best metric by stratified cross-validation, on 3000 samples at most, repeated as that
    of heads is. Its first repeat, or else `judging_rows`, also judges and calibrates the best, which is then fitted to
    all. Of more than 100 classes it is ridge regression on the last kind of descriptors. Where every class has one
    sample, which no fold can hold out, it is a support vector machine on the last kind. It is kept as a bundle of
    tensors, since scikit-learn's models persist only as pickles, which this project does not write; one that is too
    large, by what it predicts. Numbers and several labels have machines of their own: `fit_numbers`, `fit_labels`.
    """
    if dataset.task == REGRESSION:
        return fit_numbers(dataset, context.asking(dataset.task))
    if dataset.task == MULTI_LABEL:
        return fit_labels(dataset, context.asking(dataset.task))
    start, context = time.perf_counter(), context.asking(dataset.task)
    labelled = (LabelledDataset(dataset) if context.refit else dataset).split("train")
    labels, classes, metric = labelled.labels, len(dataset.classes), context.metric
    if classes > _MOST_CLASSES_FOR_MACHINES:
        return _fit_ridge(labelled, dataset, context, start)
    described_labelled = described(labelled.samples, dataset.kind, dataset.given)
    features = np.hstack(list(described_labelled.values()))
    chosen = with_every_class(labels, spread_out(labels, _SEARCHED))
    searched = features[chosen], labels[chosen]
    groups = group_numbers(labelled.groups[chosen])
    folds, repeated = repeated_folds(labels[chosen], seed=context.seed, groups=groups)
    pipeline, grid = _pipeline_and_grid(columns_of(described_labelled), samples=len(chosen), seed=context.seed)
    settings = _best_settings(pipeline, grid, *searched, repeated, _scorer(metric, classes))
    best = pipeline.set_params(**settings)
    judged = judging_rows(dataset, context) or [(chosen[kept], chosen[fold]) for kept, fold in folds]
    rows, logits = _out_of_fold(best, features, labels, judged, classes)
    # As every network is, so that their calibration errors compare.
    temperature = fit_temperature(logits, labels[rows])
    probabilities = _probabilities(logits, temperature)
    best.fit(features, labels)
    found = {key.removeprefix("model__"): v for key, v in settings.items() if key.startswith("model__")}
    return Trained(
        _kept(best, dataset, temperature, context) or _predicted(best, dataset, temperature),
        validation=score(metric, labels[rows], logits.argmax(1), classes) if judged else math.nan,
        seconds=time.perf_counter() - start,
        params={
            "model": type(best.named_steps["model"]).__name__,
            "features": best.named_steps["read"].kw_args["name"],
            "temperature": temperature,
            "labels": len(labels),
            **found,
        },
        held_out=Predictions(labelled.ids[rows], labels[rows], probabilities, dataset.classes, labelled.groups[rows])
        if judged
        else None,
    )


def _fit_ridge(labelled: Split, dataset: Dataset, context: RunContext, start: float) -> Trained:
    """Ridge regression on the last kind of descriptors."""
    from headstart.features.heads import ridge

    labels, classes = labelled.labels, len(dataset.classes)
    name, features = list(described(labelled.samples, dataset.kind, dataset.given).items())[-1]
    log.info("classical: of %d classes, ridge regression on %s stands for all machines.", classes, name)
    rows, logits = np.empty(0, dtype=np.int64), np.empty((0, classes))
    chosen = with_every_class(labels, spread_out(labels, _SEARCHED))
    groups = group_numbers(labelled.groups[chosen])
    split = stratified_folds(labels[chosen], seed=context.seed, groups=groups)
    if folds := judging_rows(dataset, context) or [(chosen[kept], chosen[fold]) for kept, fold in split]:
        rows = np.concatenate([fold for _, fold in folds])
        heads = (ridge(features[kept], labels[kept], classes).logits(features[fold]) for kept, fold in folds)
        # As the machine that is kept gives them.
        logits = np.log(np.clip(_probabilities(np.concatenate(list(heads)), 1.0), LEAST, None))
    temperature = fit_temperature(logits, labels[rows])
    probabilities = _probabilities(logits, temperature)
    head = ridge(features, labels, classes)
    found = linear(head.weight, head.bias, dataset.kind, name)
    if found is None:
        test = list(described(dataset.split("test").samples, dataset.kind, dataset.given).values())[-1]
    return Trained(
        classical_bundle(*found, dataset, context, temperature=temperature)
        if found
        else _probabilities(head.logits(test), temperature),
        validation=score(context.metric, labels[rows], logits.argmax(1), classes) if len(rows) else math.nan,
        seconds=time.perf_counter() - start,
        params={"model": "Ridge", "features": name, "temperature": temperature, "labels": len(labels)},
        held_out=Predictions(labelled.ids[rows], labels[rows], probabilities, dataset.classes, labelled.groups[rows])
        if len(rows)
        else None,
    )


def _kept(best: Any, dataset: Dataset, temperature: float, context: RunContext) -> ModelBundle | None:
    """The fitted pipeline as a bundle; None where it is too large for one."""
    steps, kind = best.named_steps, dataset.kind
    scale, turn = (None if steps[name] == "passthrough" else steps[name] for name in ("scale", "turn"))
    found = converted(
        steps["model"], kind, steps["read"].kw_args["name"], classes=len(dataset.classes), scale=scale, turn=turn
    )
    return classical_bundle(*found, dataset, context, temperature=temperature) if found else None


def _predicted(best: Any, dataset: Dataset, temperature: float) -> np.ndarray:
    test = described(dataset.split("test").samples, dataset.kind, dataset.given)
    return _probabilities(_logits(best, np.hstack(list(test.values()))), temperature)


def _probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    from scipy.special import softmax

    calibrated: np.ndarray = softmax(logits / temperature, axis=1).astype(np.float32)
    return calibrated


def _best_settings(
    pipeline: Any,
    grid: list[dict[str, Any]],
    features: np.ndarray,
    labels: np.ndarray,
    folds: Sequence[tuple[np.ndarray, np.ndarray]],
    scorer: Callable[..., float],
) -> dict[str, Any]:
    """The settings of the grid that cross-validate best; without folds its last ones."""
    from sklearn.model_selection import GridSearchCV, ParameterGrid

    if not folds:
        last: dict[str, Any] = list(ParameterGrid(grid))[-1]
        return last
    search = GridSearchCV(pipeline, grid, cv=folds, scoring=scorer, refit=False).fit(features, labels)
    best: dict[str, Any] = search.best_params_
    return best


def _out_of_fold(
    model: Any, features: np.ndarray, labels: np.ndarray, folds: Sequence[tuple[np.ndarray, np.ndarray]], classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The positions of the held-out samples, int (M,), and their logits (M, K) in the fit without their fold."""
    if not folds:
        return np.empty(0, dtype=np.int64), np.empty((0, classes))
    logits = [_logits(model.fit(features[kept], labels[kept]), features[held_out]) for kept, held_out in folds]
    return np.concatenate([held_out for _, held_out in folds]), np.concatenate(logits)


def _pipeline_and_grid(
    columns: Mapping[str, tuple[int, int]], *, samples: int, seed: int
) -> tuple[Any, list[dict[str, Any]]]:
    """scikit-learn's pipeline and its settings to search, for descriptors in these columns."""
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from sklearn.svm import SVC

    first, *others = (
        FunctionTransformer(only, kw_args={"name": name, "start": start, "stop": stop})
        for name, (start, stop) in columns.items()
    )
    width = next(stop for _, stop in columns.values())
    linear, kernel = LogisticRegression(max_iter=1000), SVC(decision_function_shape="ovo")
    raw = {"scale": ["passthrough"]}
    # A linear model is the same along all axes that the samples span, which are fewer than the features where the
    # samples are few.
    turned = {"turn": [PCA(svd_solver="full")]} if samples < width else {}
    grid = [
        {"read": [first], **turned, "model": [linear], "model__C": [0.001, 0.01, 0.1, 1.0]},
        {"read": [first], **raw, "model": [kernel], "model__C": [1.0, 10.0], "model__gamma": ["scale", 0.01]},
    ]
    if samples >= _LEAST_FOR_FOREST:
        grid.append({"read": [first], **raw, "model": [RandomForestClassifier(n_estimators=200, random_state=seed)]})
    for other in others:
        grid += [
            {"read": [other], **raw, **turned, "model": [linear], "model__C": [1.0]},
            {"read": [other], **raw, "model": [kernel], "model__C": [1.0, 10.0]},
        ]
    steps = [("read", first), ("scale", StandardScaler()), ("turn", "passthrough"), ("model", kernel)]
    return Pipeline(steps), grid


def quick_classical(
    samples: Samples,
    kind: Modality,
    given: Section,
    *,
    classes: int,
    metric: str = "accuracy",
    rows: np.ndarray | None = None,
) -> "QuickClassical":
    """A classical model that is fitted many times, to subsets of the same samples, read by `given`: all of them, or
    those at positions `rows`, int (n,)."""
    return QuickClassical(described(samples, kind, given, rows), classes, metric)


@dataclass(frozen=True, eq=False)
class QuickClassical:
    """RBF support vector machines (C 10) on each kind of descriptors, the one with the best metric in
    cross-validation; of more than 2000 samples, for which these take minutes, ridge regression along the 1024 axes on
    which all descriptors vary most, and of more than 100 classes along those of the last kind."""

    descriptors: Mapping[str, np.ndarray]
    classes: int
    metric: str

    def predict(self, subset: np.ndarray, labels: np.ndarray, others: "QuickClassical", *, seed: int) -> np.ndarray:
        """Class indices (M,) of `others` by the model that the samples at `subset`, int (n,), with `labels`, int (n,),
        make. Where a class has one sample, the last kind is read: of pictures gradients, which tell more of few."""
        from sklearn.model_selection import StratifiedKFold

        if self._has_many_classes or len(subset) > _MOST_FOR_MACHINES:
            head = self._narrowed.ridge(subset, labels, self.classes)
            found: np.ndarray = head.logits(others._for_ridge()).argmax(axis=1)
            return found
        fewest = int(np.bincount(labels, minlength=self.classes).min())
        choices = [(self.descriptors[name], others.descriptors[name]) for name in reversed(list(self.descriptors))]
        best = 0
        if fewest >= 2:
            split = StratifiedKFold(min(3, fewest), shuffle=True, random_state=seed)
            folds = list(split.split(labels, labels))
            merits = [
                np.mean(
                    [
                        score(self.metric, labels[fold], found, self.classes)
                        for (_, fold), found in zip(folds, cross_validated(ours[subset], labels, folds), strict=True)
                    ]
                )
                for ours, _ in choices
            ]
            best = int(np.argmax(merits))
        ours, theirs = choices[best]
        return predicted(ours[subset], labels, theirs)

    @property
    def _has_many_classes(self) -> bool:
        return self.classes > _MOST_CLASSES_FOR_MACHINES

    def _for_ridge(self) -> np.ndarray:
        """(N, D): all descriptors, or those of the last kind where classes are many."""
        kinds = list(self.descriptors.values())
        return kinds[-1] if self._has_many_classes else np.hstack(kinds)

    @cached_property
    def _narrowed(self) -> "Narrowed":
        from headstart.features.narrowed import Narrowed

        return Narrowed.of(self._for_ridge())


def _scorer(metric: str, classes: int) -> Callable[[Any, np.ndarray, np.ndarray], float]:
    """The project's own metric for scikit-learn's searches: what tunes a model is what judges it."""
    return lambda model, features, labels: score(metric, labels, model.predict(features), classes)


def _logits(model: Any, features: np.ndarray) -> np.ndarray:
    """(N, K), as the network of the model gives them: log-probabilities, or `lost_margins`."""
    if hasattr(model, "predict_proba"):
        return np.log(np.clip(model.predict_proba(features), LEAST, None))
    margins = model.decision_function(features)
    # Of two classes, scikit-learn's margin speaks for the second one.
    found: np.ndarray = lost_margins(torch.from_numpy(-margins[:, None] if margins.ndim == 1 else margins)).numpy()
    return found


BASELINE = Baseline(fit_classical, is_network=False)
