"""Baselines: what a transfer has to beat, trained on the target alone.

`scratch` is the source's architecture from random weights with the strategies' budget; `classical` is the best of
several scikit-learn models on pixels, tuned by cross-validation.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.config import Training
from headstart.data.dataset import Dataset, Split
from headstart.evaluation.calibration import fit_temperature
from headstart.evaluation.evaluate import Contender
from headstart.evaluation.metrics import score
from headstart.evaluation.predictions import write_predictions
from headstart.models.bundle import ModelBundle
from headstart.training.engine import OnEpoch
from headstart.training.progress import Progress
from headstart.transfer.job import scratch_job, train

# Larger pictures are averaged down to this side: a classical model on 150 000 raw pixels only fits their noise.
_SIDE = 32
_FOLDS = 5


def fit_baseline(
    name: str,
    dataset: Dataset,
    directory: Path,
    *,
    like: ModelBundle,
    training: Training,
    metric: str,
    seed: int,
    run_id: str,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> tuple[Contender, dict[str, Any]]:
    """Trains the baseline `name` and keeps it in `directory`; also returns the settings that it came to.

    `like` is the source: scratch takes over its architecture and input, and nothing that it learned.
    """
    if name == "scratch":
        job = scratch_job(dataset.path, like, training=training, metric=metric, seed=seed)
        trained = train(job, on_epoch=on_epoch, progress=progress)
        path = directory / name
        trained.bundle.save(path)
        return Contender(name, "baseline", path, trained.validation, trained.seconds, run_id), trained.params
    model = fit_classical(dataset, metric=metric, seed=seed)
    test = dataset.split("test")
    path = directory / f"{name}.parquet"
    directory.mkdir(parents=True, exist_ok=True)
    write_predictions(path, test.ids, test.labels, model.probabilities, dataset.classes)
    return Contender(name, "baseline", path, model.validation, model.seconds, run_id), dict(model.params)


@dataclass(frozen=True)
class Classical:
    """A tuned classical model, kept by what it predicts: scikit-learn's models persist only as pickles, which this
    project does not write. `probabilities` is float32 (N, K) on the test split."""

    probabilities: np.ndarray
    validation: float
    seconds: float
    params: dict[str, str | float]


def fit_classical(dataset: Dataset, *, metric: str = "accuracy", seed: int = 0) -> Classical:
    """The best of logistic regression, RBF support vector machine and random forest on the training split's pixels.

    The grid is searched by stratified cross-validation on training samples alone; where a class has one sample, which
    no fold can hold out, the validation split chooses instead.
    """
    from scipy.special import softmax
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    start = time.perf_counter()
    train, val, test = (dataset.split(name) for name in ("train", "val", "test"))
    classes = len(dataset.classes)
    features, labels = _pixels(train), train.labels
    fewest = int(np.bincount(labels, minlength=classes).min())
    if fewest >= 2:
        folds = StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=seed)
        search_features, search_labels = features, labels
    else:
        folds = PredefinedSplit(np.repeat([-1, 0], [len(labels), len(val.labels)]))
        search_features, search_labels = np.vstack([features, _pixels(val)]), np.hstack([labels, val.labels])
    pipeline = Pipeline([("scale", StandardScaler()), ("model", SVC())])
    linear = LogisticRegression(max_iter=1000)
    forest = RandomForestClassifier(n_estimators=200, random_state=seed)
    grid = [
        {"model": [linear], "model__C": [0.001, 0.01, 0.1, 1.0]},
        {"scale": ["passthrough"], "model": [SVC()], "model__C": [1.0, 10.0], "model__gamma": ["scale", 0.01]},
        {"scale": ["passthrough"], "model": [forest]},
    ]
    scoring = {"accuracy": "accuracy", "balanced_accuracy": "balanced_accuracy"}.get(metric, "f1_macro")
    search = GridSearchCV(pipeline, grid, cv=folds, scoring=scoring, refit=False)
    search.fit(search_features, search_labels)
    # The winner is fitted on training samples only, also where the validation split chose it.
    best = pipeline.set_params(**search.best_params_).fit(features, labels)
    validation = score(metric, val.labels, best.predict(_pixels(val)), classes)
    # As every network is, so that their calibration errors compare.
    temperature = fit_temperature(_logits(best, _pixels(val)), val.labels)
    return Classical(
        probabilities=softmax(_logits(best, _pixels(test)) / temperature, axis=1).astype(np.float32),
        validation=validation,
        seconds=time.perf_counter() - start,
        params={
            "model": type(best.named_steps["model"]).__name__,
            "cross_validated": float(search.best_score_),
            "temperature": temperature,
            **{key.removeprefix("model__"): v for key, v in search.best_params_.items() if key.startswith("model__")},
        },
    )


def _pixels(split: Split) -> np.ndarray:
    """float32 (N, side · side · C) in [0, 1], averaged down to at most 32 pixels a side."""
    count, height, width, channels = split.samples.shape
    factor = max(1, height // _SIDE)
    rows, columns = height // factor, width // factor
    pixels = np.empty((count, rows * columns * channels), dtype=np.float32)
    for start in range(0, count, 1024):
        chunk = split.samples[start : start + 1024, : rows * factor, : columns * factor]
        blocks = chunk.reshape(len(chunk), rows, factor, columns, factor, channels)
        pixels[start : start + 1024] = blocks.mean(axis=(2, 4), dtype=np.float32).reshape(len(chunk), -1) / 255
    return pixels


def _logits(model: Any, features: np.ndarray) -> np.ndarray:
    """(N, K), in the order of the model's certainty: log-probabilities, or a support vector machine's margins."""
    if hasattr(model, "predict_proba"):
        # A forest's 0 means that none of its trees thought of the class, which is no certainty.
        return np.log(np.clip(model.predict_proba(features), 1e-6, None))
    margins = model.decision_function(features)
    return np.stack([-margins, margins], axis=1) if margins.ndim == 1 else margins
