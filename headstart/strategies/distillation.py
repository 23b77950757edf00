"""Distillation: a teacher is made of the source, and a small network learns from the labels and from its answers.

Which strategy makes the teacher is chosen by held-out predictions, once. While the student's epochs are chosen, and for
each part of the labels that is held out further, neither it nor its teacher has learned from the samples that it is
judged on; then both are made again with all labels.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from headstart.data.dataset import Dataset
from headstart.metrics.averaging import best_by_metric, weights_by_held_out
from headstart.metrics.task import MULTI_LABEL, REGRESSION, Calibration
from headstart.modalities.batch import Inputs
from headstart.models.architectures import check_reads, network_for
from headstart.models.bundle import ModelBundle
from headstart.models.network import Network
from headstart.strategies.section import Strategy, own_training
from headstart.strategies.task import Task, answer_as
from headstart.training.context import RunContext
from headstart.training.engine import training_device
from headstart.training.held_out import held_out_further
from headstart.training.plan import Plan, make_plan
from headstart.training.refit import all_labels, refit, refits_alone, refitted, unchosen
from headstart.training.supervised import fit, weights_digest
from headstart.training.trained import Trained

if TYPE_CHECKING:
    from headstart.strategies.methods.distill import Distill


@dataclass(frozen=True)
class _Teacher:
    """The strategy that was chosen, and what it made of the source with all labels."""

    strategy: Strategy
    trained: Trained


def distilled(strategy: "Distill", task: Task) -> Trained:
    """Train the student that `strategy` names on the labels and on the answers of a teacher made of the task's source.

    Raises:
        InputError: there is no such architecture, or it does not read what the source reads.
    """
    # Before the teacher, which may take hours: its name may be wrong.
    student = _student(strategy, task)
    teacher = _chosen_teacher(strategy.teachers, task)
    decisions = {"student": student.architecture, "teacher": teacher.strategy.name}

    def taught(dataset: Dataset, context: RunContext) -> Trained:
        """The student of a teacher that both learn from the training split alone."""
        part = replace(task, dataset=dataset, context=context)
        found = _fitted(strategy, part, part.carried_alone(teacher.strategy, teacher.trained).bundle)
        found.bundle.provenance["decisions"] = dict(decisions)
        return replace(found, params={**found.params, **decisions, "temperature": found.bundle.temperature})

    plan = _plan(strategy, task, student)
    alone = refits_alone(task.dataset, task.context)
    first = unchosen(student, plan) if alone else taught(task.dataset, task.context)
    chosen = held_out_further(first, task.dataset, task.context, taught)
    labelled = all_labels(task.dataset, task.context)
    if labelled is None:
        return chosen
    student = _student(strategy, replace(task, dataset=labelled))
    likeness = Likeness(teacher.trained.bundle, strategy.temperature)
    refit(student, labelled, plan, task.context, chosen, penalty=likeness, name=likeness.named(strategy.name))
    return refitted(student, labelled, chosen)


def _fitted(strategy: "Distill", task: Task, teacher: ModelBundle) -> Trained:
    """The student, trained on the task's training split with the answers of `teacher`."""
    student, likeness = _student(strategy, task), Likeness(teacher, strategy.temperature)
    plan, name = _plan(strategy, task, student), likeness.named(strategy.name)
    return fit(student, task.dataset, plan, task.context, penalty=likeness, name=name)


def _plan(strategy: "Distill", task: Task, student: ModelBundle) -> Plan:
    settings, labels = task.training.model_copy(update=own_training(strategy)), task.dataset.split("train").labels
    return make_plan(settings, labels, pretrained=False, network=student.network)


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


def _chosen_teacher(strategies: Sequence[Strategy], task: Task) -> _Teacher:
    """The strategy that held-out predictions choose as they choose the transfer (headstart/judging/choice.py)."""
    made = [_Teacher(each, _judged(each, task)) for each in strategies]
    if weights := weights_by_held_out([each.trained.held_out for each in made]):
        return made[weights[0][0]]
    return made[best_by_metric([each.trained.validation for each in made])[0]]


def _judged(strategy: Strategy, task: Task) -> Trained:
    """What the strategy makes of the source by itself, as a contender of its own."""

    def again(dataset: Dataset, context: RunContext) -> Trained:
        return replace(task, dataset=dataset, context=context).carried_by(strategy)

    return held_out_further(task.carried_by(strategy), task.dataset, task.context, again)


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
