"""Linear heads on frozen features: what a source already knows about a target, without training the source."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from headstart.evaluation.metrics import score
from headstart.models.network import Network

# Inverse penalties tried by the probe, over standardised features: from a near-prototype to a near-free fit.
_STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)
_FOLDS = 5


@dataclass(frozen=True)
class LinearHead:
    """A linear classifier on features: `weight` (K, D) and `bias` (K,), float32."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, D) features to (N, K) logits."""
        return features @ self.weight.T + self.bias

    def install(self, network: Network) -> None:
        """Makes this the head of `network`."""
        classes, width = self.weight.shape
        head = nn.Linear(width, classes)
        with torch.no_grad():
            head.weight.copy_(torch.from_numpy(self.weight))
            head.bias.copy_(torch.from_numpy(self.bias))
        network.head = head.to(next(network.parameters()).device)


def nearest_prototype(features: np.ndarray, labels: np.ndarray, classes: int) -> LinearHead:
    """The nearest class mean as a linear head: softmax of −‖f − μ_k‖² / 2σ².

    (Snell, Swersky and Zemel, "Prototypical networks for few-shot learning", 2017, §2.3.) The ‖f‖² that all classes
    share cancels in the softmax, which leaves a linear function. σ² is the mean squared distance to the own prototype
    per dimension; it scales the probabilities and changes no prediction.
    """
    means = np.stack([features[labels == k].mean(axis=0) for k in range(classes)]).astype(np.float64)
    spread = float(np.mean((features - means[labels]) ** 2))
    if spread < 1e-12:
        # One sample a class is its own prototype; the spread between the prototypes is all there is to scale by.
        spread = float(means.var(axis=0).mean()) or 1.0
    return LinearHead(
        weight=(means / spread).astype(np.float32),
        bias=(-0.5 * (means**2).sum(axis=1) / spread).astype(np.float32),
    )


def logistic_probe(
    features: np.ndarray,
    labels: np.ndarray,
    val_features: np.ndarray,
    val_labels: np.ndarray,
    *,
    classes: int,
    metric: str,
) -> LinearHead:
    """Multinomial logistic regression on frozen features, its L2 penalty chosen by `metric` on validation samples.

    Args:
        features, labels: (N, D) and int (N,), with every class present.
        val_features, val_labels: (M, D) and int (M,).
    """
    heads = [_logistic(features, labels, strength, classes) for strength in _STRENGTHS]
    scores = [score(metric, val_labels, head.logits(val_features).argmax(1), classes) for head in heads]
    return heads[int(np.argmax(scores))]


def cross_validated_probe(features: np.ndarray, labels: np.ndarray, *, seed: int) -> tuple[float, float]:
    """Accuracy of a logistic probe by stratified cross-validation on training labels: its mean and standard error.

    Needs at least two samples of a class for it to take part in a fold; classes with one sample are left out. With
    fewer than two such classes the score is (0, 0): the samples cannot tell.
    """
    from sklearn.model_selection import StratifiedKFold

    counts = np.bincount(labels)
    kept = np.isin(labels, np.flatnonzero(counts >= 2))
    features, labels = features[kept], np.unique(labels[kept], return_inverse=True)[1]
    if len(labels) == 0 or labels.max() < 1:
        return 0.0, 0.0
    folds = min(_FOLDS, int(np.bincount(labels).min()))
    scores = []
    for train, held_out in StratifiedKFold(folds, shuffle=True, random_state=seed).split(features, labels):
        head = _logistic(features[train], labels[train], 0.1, int(labels.max()) + 1)
        scores.append(float(np.mean(head.logits(features[held_out]).argmax(1) == labels[held_out])))
    return float(np.mean(scores)), float(np.std(scores, ddof=1) / np.sqrt(folds))


def _logistic(features: np.ndarray, labels: np.ndarray, strength: float, classes: int) -> LinearHead:
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0)
    scale = features.std(axis=0)
    scale[scale < 1e-6] = 1.0
    model = LogisticRegression(C=strength, max_iter=500).fit((features - mean) / scale, labels)
    coefficients, intercepts = model.coef_, model.intercept_
    if classes == 2:
        # scikit-learn gives two classes one row, the log-odds of the second; halves of it are the same softmax.
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.hstack([-intercepts, intercepts]) / 2
    weight = coefficients / scale
    return LinearHead(weight.astype(np.float32), (intercepts - weight @ mean).astype(np.float32))
