"""A transfer that is to be done: what every strategy is given, the model that it makes, and the heads to start from."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from headstart.data.dataset import Dataset
from headstart.features.extraction import vectors, vectors_of
from headstart.features.heads import LinearHead, best_head, nearest_class_mean
from headstart.metrics.calibration import fit_temperature
from headstart.metrics.classification import score
from headstart.models.bundle import ModelBundle, versions
from headstart.training.context import RunContext
from headstart.training.section import Training
from headstart.training.trained import Trained


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

    def install_class_means(self) -> None:
        """Make the head that of the nearest class mean of the training split's features."""
        train = self.dataset.split("train")
        features = vectors(self.bundle, train, self.context.state, precision=self.training.precision)
        nearest_class_mean(features, train.labels, len(self.bundle.classes)).install(self.bundle.network)

    def fit_head(self) -> tuple[str, np.ndarray]:
        """Install the best head for the features; return its kind and its logits (N, K) of the validation split."""
        train, val = self.dataset.split("train"), self.dataset.split("val")
        features, val_features = vectors_of(
            self.bundle, (train, val), self.context.state, precision=self.training.precision
        )
        classes, metric = len(self.bundle.classes), self.context.metric
        head, kind, _ = best_head(features, train.labels, val_features, val.labels, classes=classes, metric=metric)
        head.install(self.bundle.network)
        return kind, head.logits(val_features)

    def install_head(self, schedule: str | None) -> str:
        """Put the head in place that a training with this schedule starts from; return its kind."""
        if schedule != "constant":
            return self.fit_head()[0]
        if self.install_source_head():
            return "source"
        generator = torch.Generator().manual_seed(self.context.seed)
        self.bundle.network.replace_head(len(self.bundle.classes), generator)
        return "new"

    def logits(self) -> np.ndarray:
        """The model's logits (N, K) on the validation split."""
        return self.bundle.predict_logits(self.dataset.split("val").samples)

    def score(self, logits: np.ndarray) -> float:
        """The metric of logits (N, K) on the validation split."""
        return score(self.context.metric, self.dataset.split("val").labels, logits.argmax(1), len(self.bundle.classes))

    def calibrate(self, logits: np.ndarray) -> None:
        """Set the model's temperature to the one that suits its logits (N, K) on the validation split."""
        self.bundle.temperature = fit_temperature(logits, self.dataset.split("val").labels)

    def result(self, validation: float, decisions: Mapping[str, Any], fitted: Trained | None = None) -> Trained:
        """The result of this transfer, from that of its training where there was one.

        `decisions` is what was chosen on the way: `head`, the kind of head at the start; `schedule`, what `auto` came
        to; `part`, the stages that surgical fine-tuning trained; `alpha`, the share of the fine-tuned weights.
        """
        self.bundle.provenance["decisions"] = dict(decisions)
        fitted = fitted or Trained(self.bundle, validation, seconds=0.0, params={})
        params = {**fitted.params, **decisions, "temperature": self.bundle.temperature}
        return replace(fitted, validation=validation, params=params)
