"""A transfer that is to be done: what every strategy is given, the model that it makes, and the heads to start from."""

import copy
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from headstart.data.dataset import Dataset, Split
from headstart.data.labelled import LabelledDataset
from headstart.data.several import one_each
from headstart.data.subsets import spread_out, with_every_class
from headstart.features.extraction import vectors_of
from headstart.features.heads import FittedHead, LinearHead, best_head, class_means
from headstart.features.label_heads import best_label_head, label_means
from headstart.features.number_heads import best_number_head, first_component
from headstart.metrics.groups import group_numbers
from headstart.metrics.predictions import Predictions, joined
from headstart.metrics.tally import score
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL, Calibration
from headstart.models.bundle import ModelBundle, versions
from headstart.models.network import Network
from headstart.training.context import RunContext
from headstart.training.held_out import judging_parts
from headstart.training.section import Training
from headstart.training.trained import Judged, Trained, calibrated, judged_together

if TYPE_CHECKING:
    from headstart.strategies.section import Strategy

log = logging.getLogger(__name__)

# Values of the features that a head is fitted to: the fit takes up to 13 times their bytes, 7 GiB of memory.
_MOST_VALUES = 2**27


def answer_as(network: Network, dataset: Dataset) -> None:
    """Make a network answer what the labels of `dataset` tell: a class, several labels, or a number in the unit of its
    training samples."""
    if dataset.task == MULTI_LABEL:
        network.label()
        return
    if dataset.task != REGRESSION:
        network.classify_only()
        return
    labels = dataset.split("train").labels
    network.measure(float(labels.mean()), float(labels.std()) or 1.0)


@dataclass
class Task:
    """The source, the target's data and the settings of a training.

    `strategy` is the name of the contender. `reference` and `digest` say which model the source is; they go into the
    new model's provenance. `start_stays` says whether a start that is a model stays where that is decided already, and
    None leaves it to held-out samples. `bundle` is that model, made when it is first asked for: at first a copy of the
    source, its head included, that names the target's classes; its temperature is that of a head that has none yet.
    """

    source: ModelBundle
    dataset: Dataset
    strategy: str
    training: Training
    context: RunContext
    reference: str | None
    digest: str | None
    start_stays: bool | None = None

    @cached_property
    def bundle(self) -> ModelBundle:
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
        answer_as(network, self.dataset)
        bundle = replace(
            self.source, network=network, classes=self.dataset.classes, provenance=provenance, task=self.dataset.task
        )
        bundle.calibration = Calibration()
        return bundle

    def carried_by(self, strategy: "Strategy", *, start_stays: bool | None = None) -> Trained:
        """What another strategy makes of the source under its own name; a training that the strategy of that name has
        done is not done again. Held-out samples judge it, which choose among several and whether its start stays."""
        context = replace(self.context, on_epoch=None, judge=True)
        return strategy.carry(replace(self, strategy=strategy.name, context=context, start_stays=start_stays))

    def carried_alone(self, strategy: "Strategy", whole: Trained) -> Trained:
        """What the strategy that made `whole` of all labels makes with this training split alone. What all held-out
        samples say of its start holds here, too."""
        return replace(self, context=self.context.alone).carried_by(strategy, start_stays=whole.keeps_start)

    def install_source_head(self) -> bool:
        """Keep the source's head for the target's classes, its rows picked and ordered by name, and its temperature;
        return False if it does not know them all. Numbers are taken for the same quantity in the same unit."""
        if self.source.task != self.bundle.task:
            return False
        known = {name: index for index, name in enumerate(self.source.classes)}
        if self.source.provenance.get("head") != "trained" or any(name not in known for name in self.bundle.classes):
            return False
        head = self.bundle.network.head
        rows = [known[name] for name in self.bundle.classes]
        weight, bias = (tensor.detach().cpu().numpy()[rows] for tensor in (head.weight, head.bias))
        LinearHead(weight, bias).install(self.bundle.network)
        self.bundle.calibration = self.source.calibration
        network = self.source.network
        if network.offset is not None and network.scale is not None:
            self.bundle.network.measure(float(network.offset), float(network.scale))
        return True

    def calibrate_source_head(self) -> None:
        """Calibrate the source's own head, which has learned from no training sample, by all of them: how far a number
        is off, or from which probability on a label is given, is another question in the target. The temperature of
        classes stays the source's."""
        if self.bundle.task != SINGLE_LABEL:
            labelled = self.dataset.split("train")
            self.bundle.calibrate(self.bundle.predict_logits(labelled.samples), labelled.labels, labelled.groups)

    def on_all_labels(self) -> "Task":
        """The same transfer from its beginning with training and validation samples to learn from, for a model that is
        judged by cross-validation."""
        return replace(self, dataset=LabelledDataset(self.dataset)) if self.context.refit else replace(self)

    def fit_head(self) -> FittedHead:
        """Install the best head for the features of the training split, calibrated by cross-validation there, and
        return it."""
        return self._fitted(best_number_head, best_label_head, self._best_class_head, calibrate=True)

    def _best_class_head(
        self, features: np.ndarray, labels: np.ndarray, *, classes: int, groups: np.ndarray | None
    ) -> FittedHead:
        """`best_head`, or the nearest class mean of one sample a class where others are held out.

        That lacks as much accuracy to the head of both labels as a fine-tuning of one does to that of both. Ridge
        regression lacks less, and would be preferred for it (docs/studies/label-budget.md). The spread per dimension,
        of which no sample is left to tell, makes logits as large as there are dimensions.
        """
        if len(labels) == classes and self.dataset.counts["val"]:
            return class_means(features, labels, classes, groups).cooled(features.shape[1])
        return best_head(features, labels, classes=classes, groups=groups)

    def fit_plain_head(self) -> FittedHead:
        """Install the head that chooses nothing for the features of the training split, and return it: the nearest
        class mean, for several labels that of each, or for numbers their first component."""
        return self._fitted(first_component, label_means, class_means, calibrate=False)

    def _fitted(
        self,
        of_numbers: Callable[..., FittedHead],
        of_labels: Callable[..., FittedHead],
        of_classes: Callable[..., FittedHead],
        *,
        calibrate: bool,
    ) -> FittedHead:
        train, rows = self._learned_by_head()
        features, labels, groups = self._features(rows), train.labels[rows], group_numbers(train.groups[rows])
        if self.bundle.task == REGRESSION:
            fitted = self._in_unit(of_numbers(features, self._standardised(labels), groups))
        elif self.bundle.task == MULTI_LABEL:
            fitted = of_labels(features, labels, groups)
        else:
            fitted = of_classes(features, labels, classes=len(self.bundle.classes), groups=groups)
        fitted = replace(fitted, held_out=rows[fitted.held_out])
        if calibrate:
            fitted = self._calibrated(fitted)
        fitted.head.install(self.bundle.network)
        return fitted

    def _calibrated(self, fitted: FittedHead) -> FittedHead:
        """The head at the temperature that suits its held-out logits, by which the bundle is calibrated.

        Of classes and labels, the temperature goes into the head itself: what is trained from it begins with
        probabilities that are calibrated (docs/studies/label-budget.md).
        """
        train = self.dataset.split("train")
        self.bundle.calibrate(fitted.logits, train.labels[fitted.held_out], train.groups[fitted.held_out])
        if self.bundle.task == REGRESSION:
            return fitted
        temperature, self.bundle.temperature = self.bundle.temperature, 1.0
        return fitted.cooled(temperature)

    def judge_by_parts(
        self, fit: Callable[["Task"], FittedHead], *, calibrate: bool = True
    ) -> tuple[float, Predictions | None] | None:
        """`judge` for a head that `fit` makes of all labels, by what it makes of each of `judging_parts`; None where
        its cross-validation tells as fairly. `calibrate` as for `judge`."""
        found = []
        for part in judging_parts(self.dataset, self.context):
            own, val = replace(self, dataset=part, context=self.context.alone), part.split("val")
            fit(own)
            predictions = own.judge(val, own.bundle.predict_logits(val.samples), calibrate=calibrate)[1]
            found += [Judged(predictions, own.bundle.calibration)] if predictions else []
        if not found:
            return None
        held_out = judged_together(found).predictions if calibrate else joined([each.predictions for each in found])
        return held_out.score(self.context.metric), held_out

    def _learned_by_head(self) -> tuple[Split, np.ndarray]:
        """The training split, and the positions of the samples that heads are fitted to: all, or of more than memory
        holds a part that has every class."""
        train = self.dataset.split("train")
        labels, width = one_each(train.labels), self.bundle.network.feature_dim
        most = max(1, _MOST_VALUES // width)
        if len(labels) <= most:
            return train, np.arange(len(labels))
        rows = spread_out(labels, most)
        if self.bundle.task != REGRESSION:
            rows = with_every_class(labels, rows)
        log.warning(
            "The head is fitted to %s of %s training samples, which stand for all: with %s features each, more would "
            "take over 7 GiB of memory.",
            *(f"{count:,}" for count in (len(rows), len(labels), width)),
        )
        return train, rows

    def _features(self, rows: np.ndarray) -> np.ndarray:
        """The source's feature vectors (M, D) of the training samples at these positions, which rise."""
        parts = self.dataset.parts("train")
        found = vectors_of(self.bundle, parts, self.context.state, precision=self.training.precision)
        if len(found) == 1 and len(rows) == len(found[0]):
            return found[0]
        starts = np.cumsum([0, *map(len, found)])
        bounds = pairwise(np.searchsorted(rows, starts))
        return np.concatenate(
            [each[rows[slice(*own)] - start] for each, start, own in zip(found, starts[:-1], bounds, strict=True)]
        )

    def _standardised(self, labels: np.ndarray) -> np.ndarray:
        """The numbers as the network's head gives them."""
        offset, scale = (float(self.bundle.network.get_buffer(name)) for name in ("offset", "scale"))
        return (labels - offset) / scale

    def _in_unit(self, fitted: FittedHead) -> FittedHead:
        """The head with the numbers that it gives held-out samples in the target's unit."""
        offset, scale = (float(self.bundle.network.get_buffer(name)) for name in ("offset", "scale"))
        return replace(fitted, logits=fitted.logits * scale + offset)

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
            self.bundle.calibrate(logits, labels, split.groups[rows])
        reached = score(self.context.metric, labels, self.bundle.kind.predicted(logits), len(self.bundle.classes))
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
