"""A transfer that is to be done: what every strategy is given, the model that it makes, and the heads to start from."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from headstart.data.dataset import Dataset, Split
from headstart.data.labelled import LabelledDataset
from headstart.features.extraction import vectors_of
from headstart.features.heads import FittedHead, LinearHead, best_head
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.classification import score
from headstart.metrics.groups import group_numbers
from headstart.metrics.predictions import Predictions
from headstart.models.bundle import ModelBundle, versions
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart.training.trained import Trained, calibrated


@dataclass
class Task:
    """The source, the target's data and the settings of a training.

    `strategy` is the name of the contender. `reference` and `digest` say which model the source is; they go into the
    new model's provenance. `bundle` is that model: at first a copy of the source, its head included, that names the
    target's classes; its temperature is that of a head that has none yet.
    """

    source: ModelBundle
    dataset: Dataset
    strategy: str
    training: Training
    context: RunContext
    reference: str | None
    digest: str | None
    bundle: ModelBundle = field(init=False)

    def __post_init__(self) -> None:
        network = copy.deepcopy(self.source.network)
        network.unfreeze()
        provenance: dict[str, Any] = {
            "role": "target",
            "strategy": self.strategy,
            **self.dataset.digests,
            "source": self.reference,
            "source_digest": self.digest,
            "seed": self.context.seed,
            "head": "trained",
            "versions": versions(),
        }
        # What is made of a model stays under its licence.
        if licence := self.source.provenance.get("license"):
            provenance["license"] = licence
        self.bundle = replace(
            self.source, network=network, classes=self.dataset.classes, temperature=1.0, provenance=provenance
        )

    def install_source_head(self) -> bool:
        """Keep the source's head for the target's classes, its rows picked and ordered by name, and its temperature;
        return False if it does not know them all."""
        known = {name: index for index, name in enumerate(self.source.classes)}
        if self.source.provenance.get("head") != "trained" or any(name not in known for name in self.bundle.classes):
            return False
        head = self.bundle.network.head
        rows = [known[name] for name in self.bundle.classes]
        weight, bias = (tensor.detach().cpu().numpy()[rows] for tensor in (head.weight, head.bias))
        LinearHead(weight, bias).install(self.bundle.network)
        self.bundle.temperature = self.source.temperature
        return True

    def on_all_labels(self) -> "Task":
        """The same transfer from its beginning with training and validation samples to learn from, for a model that is
        judged by cross-validation."""
        return replace(self, dataset=LabelledDataset(self.dataset)) if self.context.refit else replace(self)

    def features(self) -> np.ndarray:
        """The source's feature vectors (N, D) of the training split."""
        parts = self.dataset.parts("train")
        found = vectors_of(self.bundle, parts, self.context.state, precision=self.training.precision)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def fit_head(self) -> FittedHead:
        """Install the best head for the features of the training split, calibrated by cross-validation there, and
        return it."""
        train = self.dataset.split("train")
        labels, groups = train.labels, group_numbers(train.groups)
        fitted = best_head(self.features(), labels, classes=len(self.bundle.classes), groups=groups)
        fitted.head.install(self.bundle.network)
        self.bundle.temperature = fit_temperature(fitted.logits, labels[fitted.held_out])
        return fitted

    def install_head(self, schedule: str | None) -> str:
        """Put the head in place that a training with this schedule starts from; return its kind."""
        if schedule != "constant":
            return self.fit_head().kind
        if self.install_source_head():
            return "source"
        generator = torch.Generator().manual_seed(self.context.seed)
        self.bundle.network.replace_head(len(self.bundle.classes), generator)
        return "new"

    def judge(
        self, split: Split, logits: np.ndarray, rows: np.ndarray | None = None, *, calibrate: bool = True
    ) -> tuple[float, Predictions | None]:
        """The metric of held-out samples' logits (N, K), NaN where there are none, and the predictions.

        The samples are those of `split`, at `rows` if given. `calibrate` sets the model's temperature to the one that
        suits their logits; it stays where there are none.
        """
        rows = np.arange(len(split.labels)) if rows is None else rows
        ids, labels = split.ids[rows], split.labels[rows]
        if len(labels) == 0:
            return math.nan, None
        if calibrate:
            self.bundle.temperature = fit_temperature(logits, labels)
        reached = score(self.context.metric, labels, logits.argmax(1), len(self.bundle.classes))
        return reached, calibrated(ids, labels, logits, self.bundle, split.groups[rows])

    def result(
        self, judged: tuple[float, Predictions | None], decisions: Mapping[str, Any], fitted: Trained | None = None
    ) -> Trained:
        """The result of this transfer, judged by `judge`, from that of its training where there was one.

        `decisions` is what was chosen on the way: `head`, the kind of head at the start; `schedule`, what `auto` came
        to; `part`, the stages that surgical fine-tuning trained; `alpha`, the share of the fine-tuned weights.
        """
        self.bundle.provenance["decisions"] = dict(decisions)
        validation, held_out = judged
        fitted = fitted or Trained(self.bundle, validation, seconds=0.0, params={})
        params = {**fitted.params, **decisions, "temperature": self.bundle.temperature}
        return replace(fitted, validation=validation, params=params, held_out=held_out)
