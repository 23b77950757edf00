"""Distillation: a teacher is made of the source, and a small network learns from the labels and from its answers.

Every choice is made as other strategies make it. While the student's epochs are chosen, neither it nor its teacher has
learned from the held-out samples that it is judged on; then both are made again with all labels.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.data.dataset import Dataset
from headstart.metrics.task import MULTI_LABEL, REGRESSION, Calibration
from headstart.modalities.batch import Inputs
from headstart.models.architectures import check_reads, network_for
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.strategies.section import Strategy, own_training
from headstart.strategies.task import Task, answer_as
from headstart.training.engine import training_device
from headstart.training.plan import make_plan
from headstart.training.refit import all_labels, refit, refitted
from headstart.training.supervised import fit, weights_digest
from headstart.training.trained import Trained

if TYPE_CHECKING:
    from headstart.strategies.methods.distill import Distill


def distilled(strategy: "Distill", task: Task) -> Trained:
    """Train the student that `strategy` names on the labels and on the answers of a teacher made of the task's source.

    Raises:
        InputError: there is no such architecture, or it does not read what the source reads.
    """
    # Before the teacher, which may take hours: its name may be wrong.
    student = _student(strategy, task)
    settings, labels = task.training.model_copy(update=own_training(strategy)), task.dataset.split("train").labels
    plan = make_plan(settings, labels, pretrained=False, network=student.network)
    # The teacher of a student that chooses is made of the training split and judged on its own validation split alone.
    choosing = replace(task, context=replace(task.context, refit=False, cross_validate=False))
    likeness = Likeness(_teacher(strategy, choosing), strategy.temperature)
    name = likeness.named(strategy.name)
    chosen = fit(student, task.dataset, plan, task.context, penalty=likeness, name=name)
    decisions = {"student": student.architecture, "teacher": strategy.teacher}
    student.provenance["decisions"] = dict(decisions)
    chosen = replace(chosen, params={**chosen.params, **decisions, "temperature": student.temperature})
    labelled = all_labels(task.dataset, task.context)
    if labelled is None:
        return chosen
    student = _student(strategy, replace(task, dataset=labelled))
    likeness = Likeness(_teacher(strategy, task), strategy.temperature)
    refit(student, labelled, plan, task.context, chosen, penalty=likeness, name=likeness.named(strategy.name))
    return refitted(student, labelled, chosen)


def _student(strategy: "Distill", task: Task) -> ModelBundle:
    """A randomly initialised network for the target that reads samples as the source does."""
    dataset: Dataset = task.dataset
    architecture = strategy.student or dataset.kind.default_architecture
    check_reads(architecture, dataset.kind)
    torch.manual_seed(task.context.seed)
    network = network_for(architecture, task.source.preprocessing, classes=len(dataset.classes))
    answer_as(network, dataset)
    like = task.bundle
    bundle = replace(like, network=network, architecture=architecture, provenance=dict(like.provenance))
    bundle.calibration = Calibration()
    return bundle


def _teacher(strategy: "Distill", task: Task) -> ModelBundle:
    """The source, carried to the target; a training that the strategy of that name has done is not done again."""
    named = Strategy.of({"name": strategy.teacher, "strategy": strategy.teacher})
    quiet = replace(task.context, on_epoch=None)
    return named.carry(replace(task, strategy=named.name, context=quiet)).bundle


class Likeness:
    """How far a student's answers are from its teacher's for the same inputs, as a term of the loss.

    Of classes, T² KL(teacher ‖ student) of the probabilities at the temperature T, whose square keeps the gradients as
    large as those of the labels (Hinton et al., section 2.1); of several labels T² times their cross-entropy; of
    numbers the squared difference in standard deviations of the target.
    """

    def __init__(self, teacher: ModelBundle, temperature: float) -> None:
        self.teacher, self.temperature = teacher, temperature
        self.network = teacher.network.to(training_device()).eval().requires_grad_(False)

    def named(self, training: str) -> str:
        """The name of a training: a checkpoint is found by it, so it says whose answers are learned."""
        digest = weights_digest(self.network).removeprefix("sha256:")[:12]
        return f"{training} (taught by {digest}, temperature {self.temperature:g})"

    def __call__(self, network: Network, inputs: Inputs, outputs: Sequence[Inputs], start: int) -> Tensor:
        features = outputs[-1]
        assert isinstance(features, Tensor)  # noqa: S101 (the last stage pools)
        own = network.classify(features.float())
        with torch.no_grad():
            told = self.network(inputs).float()
        if self.teacher.task == REGRESSION:
            scale = network.get_buffer("scale")
            return F.mse_loss(own / scale, told / scale)
        told, own = told / (self.teacher.temperature * self.temperature), own / self.temperature
        if self.teacher.task == MULTI_LABEL:
            apart = F.binary_cross_entropy_with_logits(own, torch.sigmoid(told))
        else:
            apart = F.kl_div(own.log_softmax(dim=1), told.log_softmax(dim=1), reduction="batchmean", log_target=True)
        return self.temperature**2 * apart
