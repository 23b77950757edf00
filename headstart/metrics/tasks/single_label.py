"""single_label: which one class a sample has."""

from typing import Any

import numpy as np

from headstart.metrics.calibration import fit_temperature
from headstart.metrics.classification import check_predictions, classification_metrics
from headstart.metrics.one_standard_error import is_above_noise
from headstart.metrics.task import Calibration, Task

# Bounds the loss of an item to whose label a model gives no probability; single precision tells no less.
_LEAST = 1e-7


class SingleLabel(Task):
    name = "single_label"
    default_metric = "accuracy"
    guess_title = "majority class"

    def predicted(self, outputs: np.ndarray) -> np.ndarray:
        return outputs.argmax(axis=1)

    def losses(self, labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        of_labels = outputs[np.arange(len(labels)), labels].astype(np.float64)
        losses: np.ndarray = -np.log(np.clip(of_labels, _LEAST, 1.0))
        return losses

    def guess(self, labels: np.ndarray) -> np.ndarray:
        return np.full_like(labels, np.bincount(labels).argmax())

    def calibrated(self, logits: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None) -> Calibration:
        return Calibration(fit_temperature(logits, labels))

    def outputs(self, logits: np.ndarray, calibration: Calibration) -> np.ndarray:
        from scipy.special import softmax

        probabilities: np.ndarray = softmax(logits / calibration.scale, axis=1)
        return probabilities

    def logits(self, outputs: np.ndarray, calibration: Calibration) -> np.ndarray:
        # A probability that single precision cannot tell from 0 has a logit, too.
        found: np.ndarray = calibration.scale * np.log(np.clip(outputs, np.finfo(np.float32).tiny, 1.0))
        return found

    def beats(
        self, outputs: np.ndarray, simpler: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None
    ) -> bool:
        hits, theirs = (self.predicted(each) == labels for each in (outputs, simpler))
        losses = self.losses(labels, simpler) - self.losses(labels, outputs)
        # A model that is right more often may be surer where it is wrong.
        return is_above_noise(hits.astype(float) - theirs, groups) or is_above_noise(losses, groups)

    def check(self, labels: np.ndarray, outputs: np.ndarray, classes_count: int) -> None:
        check_predictions(labels, outputs, classes_count)

    def figures(self, labels: np.ndarray, outputs: np.ndarray, classes: tuple[str, ...]) -> dict[str, Any]:
        return classification_metrics(labels, outputs, classes)


TASK = SingleLabel()
