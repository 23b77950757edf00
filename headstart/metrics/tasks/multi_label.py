"""multi_label: which labels a sample has, of several that do not exclude one another.

Each label is a question of its own: its probability is the sigmoid of its logit, and it is given from its threshold on.
Outputs are the probabilities with the thresholds, (N, K, 2). The temperature and the thresholds are those that suit
held-out samples: a threshold is the one with the best F1 (Lipton, Elkan and Naryanaswamy 2014, "Optimal thresholding of
classifiers to maximize F1 measure"), its own for a label that five held-out samples have, and else one for all of these
labels together.
"""

from typing import Any

import numpy as np

from headstart.errors import HeadstartError
from headstart.metrics.calibration import sigmoid_temperature
from headstart.metrics.counts import f1_scores, precisions, recalls
from headstart.metrics.marks import Scored, marks
from headstart.metrics.metric import METRICS, metrics_of
from headstart.metrics.one_standard_error import is_above_noise
from headstart.metrics.task import Calibration, Task

# Bounds the loss of a label to which a model gives no probability; single precision tells no less.
_LEAST = 1e-7
# Held-out samples that have a label from which on its threshold is its own.
_ENOUGH = 5


class MultiLabel(Task):
    name = "multi_label"
    default_metric = "mean_average_precision"
    guess_title = "every label"

    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        return outputs if outputs.ndim == 2 else outputs[:, :, 0] - outputs[:, :, 1]

    def losses(self, labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        chances = np.clip(outputs[:, :, 0].astype(np.float64), _LEAST, 1 - _LEAST)
        each = np.where(labels == 1, -np.log(chances), -np.log1p(-chances))
        losses: np.ndarray = np.where(labels >= 0, each, 0.0).sum(axis=1)
        return losses

    def guess(self, labels: np.ndarray) -> np.ndarray:
        # Of all constant answers it has the best F1; the average precision is the same for all.
        return np.ones(labels.shape)

    def calibrated(self, logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> Calibration:
        if len(labels) == 0:
            return Calibration(thresholds=(0.5,) * logits.shape[1])
        scale = sigmoid_temperature(logits, labels)
        return Calibration(scale, thresholds=tuple(_thresholds(_sigmoid(logits / scale), labels)))

    def outputs(self, logits: np.ndarray, calibration: Calibration) -> np.ndarray:
        chances = _sigmoid(logits / calibration.scale).astype(np.float32)
        thresholds = np.array(calibration.thresholds or (0.5,) * logits.shape[1], dtype=np.float32)
        return np.stack([chances, np.broadcast_to(thresholds, chances.shape)], axis=2)

    def logits(self, outputs: np.ndarray, calibration: Calibration) -> np.ndarray:
        chances = np.clip(outputs[:, :, 0].astype(np.float64), _LEAST, 1 - _LEAST)
        found: np.ndarray = calibration.scale * (np.log(chances) - np.log1p(-chances))
        return found

    def beats(
        self, outputs: np.ndarray, simpler: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
    ) -> bool:
        return is_above_noise(self.losses(labels, simpler) - self.losses(labels, outputs), groups)

    def check(self, labels: np.ndarray, outputs: np.ndarray, classes_count: int) -> None:
        if labels.ndim != 2 or outputs.shape != (*labels.shape, 2):
            raise HeadstartError(
                f"Labels of shape {labels.shape} and outputs of shape {outputs.shape} do not belong together; give a "
                "mark, and a probability and threshold, for each label of each item."
            )
        if len(labels) == 0:
            raise HeadstartError("There are no items to evaluate on; give the test split at least one.")
        if labels.shape[1] != classes_count:
            raise HeadstartError(
                f"The probabilities are for {labels.shape[1]} labels but the data has {classes_count}; evaluate the "
                "model on the data set whose labels it predicts."
            )
        if not np.isfinite(outputs).all():
            raise HeadstartError(
                "Some probabilities are not finite numbers: the model has diverged; lower its learning rate."
            )

    def figures(self, labels: np.ndarray, outputs: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
        self.check(labels, outputs, len(classes))
        found = marks(labels, self.predicted(outputs))
        rows = zip(
            classes,
            precisions(found).tolist(),
            recalls(found).tolist(),
            f1_scores(found).tolist(),
            found.labelled.astype(int).tolist(),
            found.precision.tolist(),
            strict=True,
        )
        return {
            **{name: float(METRICS[name].of(found)) for name in metrics_of("multi_label")},
            "per_class": [
                {"name": name, "precision": p, "recall": r, "f1": f1, "support": support, "average_precision": area}
                for name, p, r, f1, support, area in rows
            ],
        }


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    from scipy.special import expit

    found: np.ndarray = expit(logits.astype(np.float64))
    return found


def _thresholds(chances: np.ndarray, labels: np.ndarray) -> list[float]:
    own = (labels == 1).sum(axis=0) >= _ENOUGH
    shared = 0.5 if own.all() else _best_threshold(chances[:, ~own].ravel(), labels[:, ~own].ravel())
    return [_best_threshold(chances[:, label], labels[:, label]) if own[label] else shared for label in range(len(own))]


def _best_threshold(chances: np.ndarray, labels: np.ndarray) -> float:
    """The threshold with the best F1, in the middle between two probabilities; 0.5 where no item has the label."""
    ((order, has, last),) = Scored(labels[:, None], chances[:, None]).ranked
    if not has.any():
        return 0.5
    hits = np.cumsum(has)[last]
    best = int(np.argmax(2 * hits / (has.sum() + last + 1)))
    lowest = chances[order[last[best]]]
    below = chances[order[last[best] + 1]] if last[best] + 1 < len(order) else 0.0
    return float(lowest + below) / 2


TASK = MultiLabel()
