"""A model's figures on labelled samples that its pipeline run did not test it on."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.data.dataset import label_values
from headstart.data.listing import LABELS_OF_TASKS
from headstart.errors import InputError
from headstart.figures import figure
from headstart.judging.number_diagnostics import number_intervals
from headstart.judging.reading import BATCH, read_samples
from headstart.metrics.bootstrap import metric_intervals, task_intervals
from headstart.metrics.groups import count_groups, of_groups
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS, metric_title, metrics_of
from headstart.metrics.predictions import Predictions
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from headstart.metrics.wilson import ClassIntervals, class_intervals
from headstart.models.bundle import ModelBundle
from headstart.models.prediction import named_labels, probability_columns

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a model reaches on labelled samples."""

    metric: str
    """the one that decides"""
    figures: dict[str, Interval]
    """every metric, and `ece`, with its interval"""
    classes: tuple[ClassIntervals, ...]
    """of the classes that the samples have"""
    predictions: Predictions
    paths: tuple[str, ...]
    refused: int
    """samples that could not be read"""
    trained_on: int | None
    """samples that the model or one of its sources was trained on, which are left out; None where that is not known"""
    tested_on: int
    """samples that it was tested on when it was registered, and that are no new evidence"""

    @property
    def value(self) -> Interval:
        """The metric that decides."""
        return self.figures[self.metric]

    @property
    def mistakes(self) -> list[tuple[str, str, int]]:
        """The label, the class that it was taken for, and how often; most frequent first. None of numbers and of
        several labels."""
        found, names = self.predictions, self.predictions.classes
        if found.task != SINGLE_LABEL:
            return []
        wrong = found.labels != found.predicted
        pairs = Counter(zip(found.labels[wrong].tolist(), found.predicted[wrong].tolist(), strict=True))
        return [(names[label], names[given], count) for (label, given), count in pairs.most_common()]

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each sample: path, label, predicted, probability (of `predicted`); of numbers path, label,
        predicted, low and high, between which 90% of new samples lie; of several labels those with a ; between them,
        and p_<label> …."""
        import pandas as pd

        found = self.predictions
        if found.task == REGRESSION:
            value, margin = found.predicted, found.outputs[:, 2]
            bounds = {"low": value - margin, "high": value + margin}
            return pd.DataFrame({"path": self.paths, "label": found.labels, "predicted": value, **bounds})
        names = np.array(found.classes, dtype=object)
        if found.task == MULTI_LABEL:
            chances = dict(zip(probability_columns(found.classes), found.outputs[:, :, 0].T, strict=True))
            given = named_labels(found.predicted >= 0, found.classes)
            own = named_labels(found.labels == 1, found.classes)
            return pd.DataFrame({"path": self.paths, "label": own, "predicted": given, **chances})
        return pd.DataFrame(
            {
                "path": self.paths,
                "label": names[found.labels],
                "predicted": names[found.predicted],
                "probability": found.probabilities.max(axis=1),
            }
        )

    @property
    def sentence(self) -> str:
        """The metric, on how many samples, and what to know about these."""
        value, count = self.value, len(self.paths)
        said = (
            f"{metric_title(self.metric)} {figure(value.value)} [{figure(value.low)}, {figure(value.high)}] on "
            f"{count:,} samples"
            f"{of_groups(count_groups(self.predictions.groups))}"
        )
        if self.trained_on:
            said += f"; {self.trained_on:,} more that it was trained on are left out"
        if self.trained_on is None:
            said += "; whether it was trained on some of them is not known"
        if self.tested_on:
            said += f"; on {self.tested_on:,} of them it was tested before"
        return f"{said}."

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "metric": self.metric,
            "sentence": self.sentence,
            "samples": len(self.paths),
            "refused": self.refused,
            "trained_on": self.trained_on,
            "tested_on": self.tested_on,
            "figures": {name: each.to_list() for name, each in self.figures.items()},
            "classes": [
                {
                    "name": each.name,
                    "samples": each.support,
                    "recall": each.recall.to_list(),
                    "precision": each.precision.to_list(),
                }
                for each in self.classes
            ],
            "mistakes": [{"label": label, "predicted": given, "count": n} for label, given, n in self.mistakes],
        }


def measure(
    bundle: ModelBundle,
    uri: str,
    *,
    metric: str = "accuracy",
    trained_on: Collection[str] | None = None,
    tested_on: Collection[str] = (),
) -> Measurement:
    """Measure a model on the labelled samples at `uri`.

    `trained_on` are the ids (SHA-256 of the content) of the samples that it has learned from, None where they are not
    known: a sample of these is left out. `tested_on` are those that it was tested on.

    Raises:
        InputError: the samples have no labels or a class that the model does not know, none can be read, it was trained
            on all of them, or there is no such metric.
    """
    _check_metric(metric, bundle.task)
    outputs, labels, ids, paths, groups = [], list[str](), list[str](), list[str](), list[str]()
    refused = known = 0
    for read in read_samples(bundle, uri, LABELS_OF_TASKS.get(bundle.task, "required")):
        refused += read.refused
        new = [number for number, each in enumerate(read.ids) if each not in (trained_on or ())]
        known += len(read.ids) - len(new)
        if not new:
            continue
        outputs.append(bundle.predict_outputs([read.values[number] for number in new], BATCH))
        ids += [read.ids[number] for number in new]
        labels += [read.files[number].label for number in new]
        paths += [read.files[number].path for number in new]
        groups += [read.files[number].group or "" for number in new]
    if not paths:
        raise InputError(f"The model was trained on all samples of {uri}; measure it on others.")
    found = Predictions(
        np.array(ids),
        label_values(labels, bundle.classes, bundle.task),
        np.concatenate(outputs),
        bundle.classes,
        np.array(groups),
        bundle.task,
    )
    figures, classes = _figures(found)
    return Measurement(
        metric=metric,
        figures=figures,
        classes=tuple(each for each in classes if each.support),
        predictions=found,
        paths=tuple(paths),
        refused=refused,
        trained_on=None if trained_on is None else known,
        tested_on=len(set(ids) & set(tested_on)),
    )


def _check_metric(metric: str, task: str) -> None:
    if metric not in METRICS:
        raise InputError(f"There is no metric {metric}; choose one of {', '.join(METRICS)}.")
    if task not in METRICS[metric].tasks:
        raise InputError(
            f"The metric {metric} is not for a model of the task {task}; choose one of {', '.join(metrics_of(task))}."
        )


def _figures(found: Predictions) -> tuple[dict[str, Interval], list[ClassIntervals]]:
    """Every metric with its interval, and the figures of each class, of which numbers and several labels have none."""
    if found.task == REGRESSION:
        return number_intervals(found, confidence=0.95, resamples=2000, seed=0, groups=found.groups), []
    if found.task == MULTI_LABEL:
        return task_intervals(found.task, found.labels, found.predicted, len(found.classes), groups=found.groups), []
    classes = class_intervals(found.labels, found.predicted, found.classes, groups=found.groups)
    return metric_intervals(found.labels, found.outputs, groups=found.groups), classes
