"""Export with int8 weights: calibrated and compared with the model on labelled samples before it is kept."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from headstart.data.dataset import label_values
from headstart.data.listing import LABELS_OF_TASKS
from headstart.errors import HeadstartError, InputError
from headstart.figures import figure
from headstart.judging.reading import read_samples
from headstart.judging.serving_cost import ServingCost, seconds_of
from headstart.metrics.metric import metric_title
from headstart.metrics.tally import score
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.models.architectures import INT8
from headstart.models.bundle import ModelBundle
from headstart.models.int8 import quantized
from headstart.models.onnx import Predict, arrays, checked, predictor
from headstart.storage.local import write_bytes

LEAST_AGREEMENT = 0.98
"""Share of samples that both take for the same class, or of labels on which both agree"""
LARGEST_LOSS = 0.01
"""of the metric, of classes and labels"""
LARGEST_NOISE = 0.2
"""Root mean square of what a number differs by, in standard deviations of the model's own errors: the rmse then grows
by 2%"""
_LEAST, _CALIBRATION, _MOST = 100, 256, 1256
# A batch's samples; results of all layers are in memory.
_AT_ONCE = 32
_WARM_UP, _REPEATS = 5, 50


@dataclass(frozen=True)
class Int8:
    """An exported file of int8 beside the model's own .onnx file."""

    path: Path
    task: str
    metric: str
    before: ServingCost
    after: ServingCost
    scores: tuple[float, float]
    """the metric before and after"""
    likeness: float
    """share of equal classes or labels; of numbers the noise in standard deviations of the model's errors"""
    calibrated_on: int
    compared_on: int
    """other samples than those of the calibration"""

    @property
    def refusal(self) -> str | None:
        """Why it is not kept; None if it is."""
        before, after = self.scores
        if self.after.size >= self.before.size:
            return "it is no smaller than the model's own .onnx file"
        # Negated, so that NaN is refused too.
        if self.task == REGRESSION:
            if not self.likeness <= LARGEST_NOISE:
                return f"{self.sentence}, more than {LARGEST_NOISE:.0%}"
        elif not self.likeness >= LEAST_AGREEMENT:
            return f"{self.sentence}, fewer than {LEAST_AGREEMENT:.0%}"
        elif not before - after <= LARGEST_LOSS:
            return f"its {metric_title(self.metric)} is {figure(after)} and the model's {figure(before)}"
        return None

    @property
    def sentence(self) -> str:
        """How alike their answers are."""
        on = f"on {self.compared_on:,} samples that it was not calibrated on"
        if self.task == REGRESSION:
            return f"{on}, its numbers differ from the model's by {self.likeness:.1%} of the model's own error"
        noun = "labels" if self.task == MULTI_LABEL else "classes"
        return f"{on}, {self.likeness:.1%} of its {noun} are the model's"


def export_int8(bundle: ModelBundle, path: Path, data: str, *, digest: str) -> Int8:
    """Write the bundle to `path` as one ONNX file of 8-bit whole numbers, which ONNX Runtime runs.

    Of the labelled samples at `data`, up to 256 calibrate it and up to 1,000 others compare it with the model.

    Raises:
        InputError: as `headstart.models.onnx.export`; the model is of 8-bit whole numbers already; the samples have no
            labels or a class that the model does not know; or fewer than 100 can be read.
        HeadstartError: as there; or its answers are not enough like the model's, and nothing is written.
    """
    if bundle.architecture.startswith(INT8):
        raise InputError("The model is of 8-bit whole numbers already; export it without --int8.")
    samples, labels = _read(bundle, data)
    content, _, _ = checked(bundle, digest)
    count = min(_CALIBRATION, len(samples) // 2)
    smaller = quantized(content, [arrays(bundle, part) for part in _batches(samples[:count])])
    files = (content, smaller)
    predictors = [predictor(bundle, each, threads=1) for each in files]
    outputs = [np.concatenate([predict(part) for part in _batches(samples[count:])]) for predict in predictors]
    answers = [bundle.kind.predicted(each) for each in outputs]
    metric = bundle.kind.default_metric
    before, after = (score(metric, labels[count:], each, len(bundle.classes)) for each in answers)
    costs = [_cost(bundle, each, predict) for each, predict in zip(files, predictors, strict=True)]
    found = Int8(
        path=path,
        task=bundle.task,
        metric=metric,
        before=costs[0],
        after=costs[1],
        scores=(before, after),
        likeness=_likeness(bundle, *answers),
        calibrated_on=count,
        compared_on=len(samples) - count,
    )
    if found.refusal:
        raise HeadstartError(
            f"int8 does not do for this model: {found.refusal}; nothing was written. Export it without --int8, or make "
            "a smaller network of it with the strategy distill."
        )
    write_bytes(path, smaller)
    return found


def _read(bundle: ModelBundle, data: str) -> tuple[list[Any], np.ndarray]:
    values, labels = list[Any](), list[str]()
    for read in read_samples(bundle, data, LABELS_OF_TASKS.get(bundle.task, "required"), _MOST):
        values += read.values
        labels += [file.label for file in read.files]
    if len(values) < _LEAST:
        raise InputError(
            f"{data} holds {len(values)} samples that can be read, and int8 needs {_LEAST}, half of them to calibrate "
            "and half to compare; give more."
        )
    return values, label_values(labels, bundle.classes, bundle.task)


def _batches(samples: Sequence[Any]) -> list[Sequence[Any]]:
    return [samples[start : start + _AT_ONCE] for start in range(0, len(samples), _AT_ONCE)]


def _likeness(bundle: ModelBundle, before: np.ndarray, after: np.ndarray) -> float:
    if bundle.task == REGRESSION:
        return float(np.sqrt(np.mean((after - before) ** 2)) / bundle.temperature)
    return float(np.mean((after >= 0) == (before >= 0) if bundle.task == MULTI_LABEL else after == before))


def _cost(bundle: ModelBundle, content: bytes, predict: Predict) -> ServingCost:
    sample = bundle.preprocessing.noise(1)
    seconds = seconds_of(lambda: predict(sample), warm_up=_WARM_UP, repeats=_REPEATS)
    return ServingCost(len(content), 1000 * min(seconds))
