"""The classical baseline for numbers: the best of several scikit-learn regressors on descriptors of samples."""

import math
import time
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset
from headstart.data.folds import repeated_folds
from headstart.data.labelled import LabelledDataset
from headstart.data.subsets import spread_out
from headstart.metrics.groups import group_numbers
from headstart.metrics.predictions import Predictions
from headstart.metrics.tally import score
from headstart.models.bundle import ModelBundle
from headstart.models.classical import converted_number
from headstart.strategies.baselines._classical_bundle import classical_bundle
from headstart.strategies.baselines._descriptors import columns_of, described, only
from headstart.training.context import RunContext
from headstart.training.trained import Trained

# Settings are searched on at most so many samples: a support vector machine's time grows with their square.
_SEARCHED = 3000
# λ of ridge regression, for each feature.
_PENALTIES = (0.01, 0.1, 1.0, 10.0, 100.0)


def fit_numbers(dataset: Dataset, context: RunContext) -> Trained:
    """The best of ridge regression and RBF support vector regression on each kind of descriptors of all labelled
    samples, which are standardised, and so are the numbers.

    The grid is searched for the least mean absolute error by cross-validation, on 3000 samples at most, repeated as
    that of heads is. Its first repeat also calibrates the best, which is then fitted to all, and kept as a bundle of
    tensors.
    """
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, ParameterGrid

    start = time.perf_counter()
    labelled = (LabelledDataset(dataset) if context.refit else dataset).split("train")
    labels = labelled.labels
    parts = described(labelled.samples, dataset.kind, dataset.given)
    features = np.hstack(list(parts.values()))
    chosen = spread_out(labels, _SEARCHED)
    offset, deviation = float(labels.mean()), float(labels.std()) or 1.0
    standard = (labels - offset) / deviation
    groups = group_numbers(labelled.groups[chosen])
    folds, repeated = repeated_folds(labels[chosen], seed=context.seed, groups=groups)
    pipeline, grid = _pipeline_and_grid(columns_of(parts), samples=len(chosen))
    settings: dict[str, Any] = list(ParameterGrid(grid))[-1]
    if folds:
        search = GridSearchCV(pipeline, grid, cv=repeated, scoring="neg_mean_absolute_error", refit=False)
        settings = search.fit(features[chosen], standard[chosen]).best_params_
    best = pipeline.set_params(**settings)
    fits = [
        clone(best).fit(features[chosen][kept], standard[chosen][kept]).predict(features[chosen][fold])
        for kept, fold in folds
    ]
    rows = chosen[np.concatenate([fold for _, fold in folds])] if folds else np.empty(0, dtype=np.int64)
    logits = (np.concatenate(fits) * deviation + offset)[:, None] if folds else np.empty((0, 1))
    bundle = _bundle(best.fit(features, standard), dataset, context)
    bundle.calibrate(logits, labels[rows], labelled.groups[rows])
    found = {key.removeprefix("model__"): v for key, v in settings.items() if key.startswith("model__")}
    return Trained(
        bundle,
        validation=score(context.metric, labels[rows], logits[:, 0], 1) if folds else math.nan,
        seconds=time.perf_counter() - start,
        params={
            "model": type(best.named_steps["model"]).__name__,
            "features": best.named_steps["read"].kw_args["name"],
            "temperature": bundle.temperature,
            "labels": len(labels),
            **found,
        },
        held_out=Predictions(
            labelled.ids[rows],
            labels[rows],
            bundle.kind.outputs(logits, bundle.calibration),
            dataset.classes,
            labelled.groups[rows],
            dataset.task,
        )
        if folds
        else None,
    )


def _bundle(best: Any, dataset: Dataset, context: RunContext) -> ModelBundle:
    steps, kind = best.named_steps, dataset.kind
    scale, turn = (None if steps[name] == "passthrough" else steps[name] for name in ("scale", "turn"))
    found = converted_number(steps["model"], kind, steps["read"].kw_args["name"], scale=scale, turn=turn)
    # At most 3000 vectors are searched with, but all samples are fitted.
    assert found is not None  # noqa: S101
    return classical_bundle(*found, dataset, context)


def _pipeline_and_grid(columns: dict[str, tuple[int, int]], *, samples: int) -> tuple[Any, list[dict[str, Any]]]:
    from sklearn.decomposition import PCA
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from sklearn.svm import SVR

    grid = []
    for name, (start, stop) in columns.items():
        read = FunctionTransformer(only, kw_args={"name": name, "start": start, "stop": stop})
        # A linear model is the same along all axes that the samples span, which are fewer where the samples are few.
        turned = {"turn": [PCA(svd_solver="full")]} if samples < stop - start else {}
        grid += [
            {
                "read": [read],
                **turned,
                "model": [Ridge()],
                "model__alpha": [each * (stop - start) for each in _PENALTIES],
            },
            {"read": [read], "scale": ["passthrough"], "model": [SVR()], "model__C": [1.0, 10.0]},
        ]
    steps = [("read", grid[0]["read"][0]), ("scale", StandardScaler()), ("turn", "passthrough"), ("model", SVR())]
    return Pipeline(steps), grid
