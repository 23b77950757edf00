"""A model's figures on labelled samples that its pipeline run did not test it on."""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.errors import InputError
from headstart.judging.reading import BATCH, read_samples
from headstart.metrics.bootstrap import metric_intervals
from headstart.metrics.groups import count_groups, of_groups
from headstart.metrics.intervals import Interval
from headstart.metrics.metric import METRICS, metric_title
from headstart.metrics.predictions import Predictions
from headstart.metrics.wilson import ClassIntervals, class_intervals
from headstart.models.bundle import ModelBundle

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
        """The label, the class that it was taken for, and how often; most frequent first."""
        found, names = self.predictions, self.predictions.classes
        wrong = found.labels != found.predicted
        pairs = Counter(zip(found.labels[wrong].tolist(), found.predicted[wrong].tolist(), strict=True))
        return [(names[label], names[given], count) for (label, given), count in pairs.most_common()]

    @property
    def table(self) -> "pd.DataFrame":
        """One row for each sample: path, label, predicted, probability (of `predicted`)."""
        import pandas as pd

        found = self.predictions
        names = np.array(found.classes, dtype=object)
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
            f"{metric_title(self.metric)} {value.value:.3f} [{value.low:.3f}, {value.high:.3f}] on {count:,} samples"
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
    if metric not in METRICS:
        raise InputError(f"There is no metric {metric}; choose one of {', '.join(METRICS)}.")
    probabilities, labels, ids, paths, groups = [], list[int](), list[str](), list[str](), list[str]()
    refused = known = 0
    index = {name: number for number, name in enumerate(bundle.classes)}
    for read in read_samples(bundle, uri, "required"):
        refused += read.refused
        new = [number for number, each in enumerate(read.ids) if each not in (trained_on or ())]
        known += len(read.ids) - len(new)
        if not new:
            continue
        probabilities.append(bundle.predict_probabilities([read.values[number] for number in new], BATCH))
        ids += [read.ids[number] for number in new]
        labels += [index[read.files[number].label] for number in new]
        paths += [read.files[number].path for number in new]
        groups += [read.files[number].group or "" for number in new]
    if not paths:
        raise InputError(f"The model was trained on all samples of {uri}; measure it on others.")
    found = Predictions(
        np.array(ids), np.array(labels, dtype=np.int64), np.concatenate(probabilities), bundle.classes, np.array(groups)
    )
    named = class_intervals(found.labels, found.predicted, bundle.classes, groups=found.groups)
    return Measurement(
        metric=metric,
        figures=metric_intervals(found.labels, found.probabilities, groups=found.groups),
        classes=tuple(each for each in named if each.support),
        predictions=found,
        paths=tuple(paths),
        refused=refused,
        trained_on=None if trained_on is None else known,
        tested_on=len(set(ids) & set(tested_on)),
    )
