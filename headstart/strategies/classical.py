"""Classical models: what pictures give away without anything deep, by scikit-learn on pixels and on gradients."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from headstart.data.dataset import Dataset, Samples
from headstart.data.subsets import spread_out, with_every_class
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.classification import score

# Larger pictures are averaged down to this side: a classical model on 150 000 raw pixels only fits their noise.
_SIDE = 32
# Gradients are taken at up to twice that side, in 8 x 8 cells.
_CELLS = 8
_ORIENTATIONS = 9
_FOLDS = 5
# Settings are searched on at most so many training samples: a support vector machine's time grows with their square.
_SEARCHED = 3000
_MOST_FOR_MACHINES = 2000
# Samples that are in memory at a time.
_READ = 512


@dataclass(frozen=True)
class Classical:
    """A tuned classical model, kept by what it predicts: scikit-learn's models persist only as pickles, which this
    project does not write. `probabilities` is float32 (N, K) on the test split."""

    probabilities: np.ndarray
    validation: float
    seconds: float
    params: dict[str, str | float]


def fit_classical(dataset: Dataset, *, metric: str = "accuracy", seed: int = 0) -> Classical:
    """The best of logistic regression, RBF support vector machine and random forest on the training split's pixels, and
    of the first two on its histograms of gradients.

    The grid is searched for the best `metric` by stratified cross-validation on training samples alone, 3000 of them at
    most; where a class has one sample, which no fold can hold out, the validation split chooses instead. The best is
    fitted to all.
    """
    from scipy.special import softmax
    from sklearn.decomposition import PCA
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, PredefinedSplit, StratifiedKFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer, StandardScaler
    from sklearn.svm import SVC

    start = time.perf_counter()
    train, val, test = (dataset.split(name) for name in ("train", "val", "test"))
    classes = len(dataset.classes)
    width = pixels(train.samples[:1]).shape[1]
    features, val_features, test_features = (_both(split.samples) for split in (train, val, test))
    labels = train.labels
    searched = with_every_class(labels, spread_out(labels, _SEARCHED))
    search_features, search_labels = features[searched], labels[searched]
    fewest = int(np.bincount(search_labels, minlength=classes).min())
    if fewest >= 2:
        folds = StratifiedKFold(min(_FOLDS, fewest), shuffle=True, random_state=seed)
    else:
        folds = PredefinedSplit(np.repeat([-1, 0], [len(search_labels), len(val.labels)]))
        search_features = np.vstack([search_features, val_features])
        search_labels = np.hstack([search_labels, val.labels])
    of_pixels, of_gradients = (
        FunctionTransformer(_columns, kw_args={"start": start, "stop": stop})
        for start, stop in ((0, width), (width, features.shape[1]))
    )
    linear = LogisticRegression(max_iter=1000)
    forest = RandomForestClassifier(n_estimators=200, random_state=seed)
    raw = {"scale": ["passthrough"]}
    # A linear model is the same along all axes that the samples span, which are fewer than the features where the
    # samples are few.
    turned = {"turn": [PCA(svd_solver="full")]} if len(search_features) < width else {}
    grid = [
        {"read": [of_pixels], **turned, "model": [linear], "model__C": [0.001, 0.01, 0.1, 1.0]},
        {"read": [of_pixels], **raw, "model": [SVC()], "model__C": [1.0, 10.0], "model__gamma": ["scale", 0.01]},
        {"read": [of_pixels], **raw, "model": [forest]},
        {"read": [of_gradients], **raw, **turned, "model": [linear], "model__C": [1.0]},
        {"read": [of_gradients], **raw, "model": [SVC()], "model__C": [1.0, 10.0]},
    ]
    pipeline = Pipeline([("read", of_pixels), ("scale", StandardScaler()), ("turn", "passthrough"), ("model", SVC())])
    search = GridSearchCV(pipeline, grid, cv=folds, scoring=_scorer(metric, classes), refit=False)
    search.fit(search_features, search_labels)
    # The winner is fitted on training samples only, also where the validation split chose it.
    best = pipeline.set_params(**search.best_params_).fit(features, labels)
    logits = _logits(best, val_features)
    # As every network is, so that their calibration errors compare.
    temperature = fit_temperature(logits, val.labels)
    return Classical(
        probabilities=softmax(_logits(best, test_features) / temperature, axis=1).astype(np.float32),
        validation=score(metric, val.labels, best.predict(val_features), classes),
        seconds=time.perf_counter() - start,
        params={
            "model": type(best.named_steps["model"]).__name__,
            "features": "pixels" if best.named_steps["read"] is of_pixels else "gradients",
            "cross_validated": float(search.best_score_),
            "temperature": temperature,
            **{key.removeprefix("model__"): v for key, v in search.best_params_.items() if key.startswith("model__")},
        },
    )


def quick_classical(
    samples: Samples, *, classes: int, metric: str = "accuracy", rows: np.ndarray | None = None
) -> "QuickClassical":
    """A classical model that is fitted many times, to subsets of the same samples: all of them, or those at positions
    `rows`, int (n,)."""
    return QuickClassical(*_read(samples, np.arange(len(samples)) if rows is None else rows), classes, metric)


@dataclass(frozen=True, eq=False)
class QuickClassical:
    """RBF support vector machines (C 10) on pixels and on gradients, the one with the better metric in
    cross-validation; of more than 2000 samples, for which these take minutes, ridge regression on both."""

    pixels: np.ndarray
    gradients: np.ndarray
    classes: int
    metric: str

    def predict(self, subset: np.ndarray, labels: np.ndarray, others: "QuickClassical", *, seed: int) -> np.ndarray:
        """Class indices (M,) of `others` by the model that the samples at `subset`, int (n,), with `labels`, int (n,),
        make. Where a class has one sample, gradients are read, which few samples tell more."""
        from sklearn.model_selection import StratifiedKFold, cross_val_score
        from sklearn.svm import SVC

        from headstart.features.heads import ridge

        if len(subset) > _MOST_FOR_MACHINES:
            ours, theirs = (np.hstack([each.pixels, each.gradients]) for each in (self, others))
            found: np.ndarray = ridge(ours[subset], labels, self.classes).logits(theirs).argmax(axis=1)
            return found
        fewest = int(np.bincount(labels, minlength=self.classes).min())
        choices = [(self.gradients, others.gradients), (self.pixels, others.pixels)]
        best = 0
        if fewest >= 2:
            folds = StratifiedKFold(min(3, fewest), shuffle=True, random_state=seed)
            scorer = _scorer(self.metric, self.classes)
            merits = [
                cross_val_score(SVC(C=10.0), ours[subset], labels, cv=folds, scoring=scorer).mean()
                for ours, _ in choices
            ]
            best = int(np.argmax(merits))
        ours, theirs = choices[best]
        predicted: np.ndarray = SVC(C=10.0).fit(ours[subset], labels).predict(theirs)
        return predicted


def pixels(samples: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) to float32 (N, side · side · C) in [0, 1], averaged down to at most 32 pixels a side or so."""
    return _averaged(samples, _SIDE).reshape(len(samples), -1)


def gradients(samples: np.ndarray) -> np.ndarray:
    """Histograms of oriented gradients of uint8 (N, H, W, C), float32 (N, 7 · 7 · 36) (Dalal and Triggs 2005).

    Gradients of the grey picture are gathered by their direction, of 9 in half a circle, in 8 x 8 cells, each weighing
    by its length and shared among the two directions next to it. Four neighbouring cells make a block, whose values
    have length 1, are cut off at 0.2, and have length 1 again.
    """
    found = np.empty((len(samples), (_CELLS - 1) ** 2 * 4 * _ORIENTATIONS), dtype=np.float32)
    for start in range(0, len(samples), _READ):
        grey = _averaged(samples[start : start + _READ], 2 * _SIDE).mean(axis=3)
        along, across = np.gradient(grey, axis=(1, 2))
        lengths = np.hypot(along, across)
        direction = np.arctan2(along, across) % np.pi * (_ORIENTATIONS / np.pi)
        lower = np.floor(direction).astype(int)
        share = direction - lower
        histograms = np.zeros((*grey.shape, _ORIENTATIONS), dtype=np.float32)
        for bins, weights in ((lower, 1 - share), (lower + 1, share)):
            # Both can be the same bin at the end of the half circle, so they are added one after the other.
            place = (bins % _ORIENTATIONS)[..., None]
            current = np.take_along_axis(histograms, place, axis=3)
            np.put_along_axis(histograms, place, current + (lengths * weights)[..., None], axis=3)
        for axis in (1, 2):
            edges = np.linspace(0, histograms.shape[axis], _CELLS + 1).astype(int)
            histograms = np.add.reduceat(histograms, edges[:-1], axis=axis)
        corners = [histograms[:, i : i + _CELLS - 1, j : j + _CELLS - 1] for i in (0, 1) for j in (0, 1)]
        blocks = _of_length_1(np.concatenate(corners, axis=3))
        found[start : start + _READ] = _of_length_1(np.minimum(blocks, 0.2)).reshape(len(grey), -1)
    return found


def _scorer(metric: str, classes: int) -> Callable[[Any, np.ndarray, np.ndarray], float]:
    """The project's own metric for scikit-learn's searches: what tunes a model is what judges it."""
    return lambda model, features, labels: score(metric, labels, model.predict(features), classes)


def _both(samples: Samples) -> np.ndarray:
    return np.hstack(_read(samples, np.arange(len(samples))))


def _read(samples: Samples, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`pixels` and `gradients` of the samples at positions `rows`, int (n,), each read once."""
    parts = (samples[rows[start : start + _READ]] for start in range(0, max(1, len(rows)), _READ))
    of_pixels, of_gradients = zip(*((pixels(part), gradients(part)) for part in parts), strict=True)
    return np.concatenate(of_pixels), np.concatenate(of_gradients)


def _columns(features: np.ndarray, start: int, stop: int) -> np.ndarray:
    return features[:, start:stop]


def _averaged(samples: np.ndarray, side: int) -> np.ndarray:
    """float32 (N, h, w, C) in [0, 1]: blocks averaged so that no more than about `side` pixels a side are left."""
    count, height, width, channels = samples.shape
    factor = max(1, height // side)
    rows, columns = height // factor, width // factor
    averaged = np.empty((count, rows, columns, channels), dtype=np.float32)
    for start in range(0, count, 1024):
        chunk = samples[start : start + 1024, : rows * factor, : columns * factor]
        blocks = chunk.reshape(len(chunk), rows, factor, columns, factor, channels)
        averaged[start : start + 1024] = blocks.mean(axis=(2, 4), dtype=np.float32) / 255
    return averaged


def _of_length_1(values: np.ndarray) -> np.ndarray:
    lengths = np.sqrt((values**2).sum(axis=-1, keepdims=True) + 1e-6)
    scaled: np.ndarray = values / lengths
    return scaled


def _logits(model: Any, features: np.ndarray) -> np.ndarray:
    """(N, K), in the order of the model's certainty: log-probabilities, or a support vector machine's margins."""
    if hasattr(model, "predict_proba"):
        # A forest's 0 means that none of its trees thought of the class, which is no certainty.
        return np.log(np.clip(model.predict_proba(features), 1e-6, None))
    margins = model.decision_function(features)
    return np.stack([-margins, margins], axis=1) if margins.ndim == 1 else margins
