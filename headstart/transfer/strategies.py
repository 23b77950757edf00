"""Strategies: the ways to carry a source model to a target, from nothing trained to everything trained.

Each kind is one short function over the stages of a network. Read it and you know what it does.
"""

import copy
import time
from dataclasses import dataclass, replace
from typing import Any

import torch

from headstart.config import Strategy, Training
from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.evaluation.metrics import score
from headstart.models.bundle import ModelBundle, versions
from headstart.training.loop import Fit, OnEpoch, Penalty, fit, training_device
from headstart.training.plan import Plan, make_plan
from headstart.training.progress import Progress
from headstart.transfer.probe import LinearHead, logistic_probe, nearest_prototype
from headstart.transfer.regularizers import REGULARIZERS


@dataclass(frozen=True)
class Transferred:
    """A model for the target, how it was trained, and how well it does on the validation split.

    `fit` and `plan` are None where nothing was trained; `seconds` counts everything from the source's weights on.
    """

    bundle: ModelBundle
    validation: float
    seconds: float
    fit: Fit | None
    plan: Plan | None


@dataclass(frozen=True)
class _Task:
    """What every kind of transfer is given."""

    source: ModelBundle
    dataset: Dataset
    strategy: Strategy
    training: Training
    metric: str
    seed: int
    reference: str | None
    digest: str | None
    on_epoch: OnEpoch | None
    progress: Progress | None


def transfer(
    source: ModelBundle,
    dataset: Dataset,
    strategy: Strategy,
    *,
    training: Training,
    metric: str = "accuracy",
    seed: int = 0,
    reference: str | None = None,
    digest: str | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> Transferred:
    """Carries `source` to the classes of `dataset` by `strategy`; `source` itself is not changed.

    `reference` and `digest` say which model the source is; they go into the new model's provenance. Only the training
    split trains, and only the validation split chooses (epochs, the probe's penalty).

    Raises:
        InputError: the strategy freezes more stages than the source has, or the modalities differ.
    """
    if source.modality != dataset.modality:
        raise InputError(
            f"The source reads {source.modality} and the target is {dataset.modality}; choose another source."
        )
    overrides = {key: getattr(strategy, key) for key in ("epochs", "learning_rate") if getattr(strategy, key)}
    task = _Task(
        source=source,
        dataset=dataset,
        strategy=strategy,
        training=training.model_copy(update=overrides),
        metric=metric,
        seed=seed,
        reference=reference,
        digest=digest,
        on_epoch=on_epoch,
        progress=progress,
    )
    start = time.perf_counter()
    source.network.to(training_device())
    result = {"zero": _zero, "partial": _partial, "full": _full}[strategy.transfer](task)
    return replace(result, seconds=time.perf_counter() - start)


def _zero(task: _Task) -> Transferred:
    """Nothing is trained. The source's own head where it knows every class of the target, else the nearest class
    prototype of its features, which takes one mean a class from the training split."""
    bundle = _start(task)
    train, val = task.dataset.split("train"), task.dataset.split("val")
    if not _source_head(task, bundle):
        features = bundle.predict_features(train.samples)
        nearest_prototype(features, train.labels, len(bundle.classes)).install(bundle.network)
    predictions = bundle.predict_logits(val.samples).argmax(1)
    validation = score(task.metric, val.labels, predictions, len(bundle.classes))
    return Transferred(bundle, validation, seconds=0.0, fit=None, plan=None)


def _partial(task: _Task) -> Transferred:
    """The first k stages stay as the source has them, weights and batch-norm statistics; the rest and a new head are
    trained (Yosinski et al. 2014, "How transferable are features in deep neural networks?")."""
    bundle = _start(task)
    stages = len(bundle.network.stages)
    # Earlier stages hold what domains share, later ones what is special to the source; half is where they part.
    frozen = -(-stages // 2) if task.strategy.freeze is None else task.strategy.freeze
    if frozen > stages:
        raise InputError(
            f"strategies.{task.strategy.name}.freeze is {frozen}, but {bundle.architecture} has {stages} stages; "
            f"freeze at most {stages}."
        )
    _new_head(task, bundle)
    bundle.network.freeze(frozen)
    return _train(task, bundle)


def _full(task: _Task) -> Transferred:
    """Every source weight is a start and is trained on.

    `constant`: all at once, from the source's head where it knows every class of the target and from a new one
    elsewhere. `lp_ft`: first a linear probe on the source's features becomes the head, then all is trained, so that
    a random head does not distort the features (Kumar et al., "Fine-tuning can distort pretrained features and
    underperform out-of-distribution", ICLR 2022).
    """
    bundle = _start(task)
    if task.strategy.schedule == "lp_ft":
        train, val = task.dataset.split("train"), task.dataset.split("val")
        probe = logistic_probe(
            bundle.predict_features(train.samples),
            train.labels,
            bundle.predict_features(val.samples),
            val.labels,
            classes=len(bundle.classes),
            metric=task.metric,
        )
        probe.install(bundle.network)
    elif not _source_head(task, bundle):
        _new_head(task, bundle)
    return _train(task, bundle)


def _start(task: _Task) -> ModelBundle:
    """A copy of the source that names the target's classes and says what it is; its head is still the source's, and
    its temperature is that of a head that has none yet."""
    network = copy.deepcopy(task.source.network)
    network.unfreeze()
    provenance: dict[str, Any] = {
        "role": "target",
        "strategy": task.strategy.name,
        **task.dataset.digests,
        "source": task.reference,
        "source_digest": task.digest,
        "seed": task.seed,
        "head": "trained",
        "versions": versions(),
    }
    return replace(task.source, network=network, classes=task.dataset.classes, temperature=1.0, provenance=provenance)


def _source_head(task: _Task, bundle: ModelBundle) -> bool:
    """Keeps the source's head for the target's classes, its rows picked and ordered by name, and the temperature that
    was fitted to it; False if it cannot."""
    known = {name: index for index, name in enumerate(task.source.classes)}
    if task.source.provenance.get("head") != "trained" or any(name not in known for name in bundle.classes):
        return False
    head = bundle.network.head
    rows = [known[name] for name in bundle.classes]
    weight, bias = (tensor.detach().cpu().numpy()[rows] for tensor in (head.weight, head.bias))
    LinearHead(weight, bias).install(bundle.network)
    bundle.temperature = task.source.temperature
    return True


def _new_head(task: _Task, bundle: ModelBundle) -> None:
    bundle.network.replace_head(len(bundle.classes), torch.Generator().manual_seed(task.seed))


def _train(task: _Task, bundle: ModelBundle) -> Transferred:
    penalty: Penalty | None = None
    training = task.training
    if task.strategy.regularizer and task.strategy.strength is not None:
        # R(w) takes the place of the optimiser's own pull towards 0; both at once would be two objectives.
        training = training.model_copy(update={"weight_decay": 0.0})
        penalty = REGULARIZERS[task.strategy.regularizer](bundle.network, task.strategy.strength)
    plan = make_plan(training, task.dataset.split("train").labels, pretrained=True)
    fitted = fit(
        bundle,
        task.dataset,
        plan,
        metric=task.metric,
        seed=task.seed,
        penalty=penalty,
        on_epoch=task.on_epoch,
        progress=task.progress,
        label=task.strategy.name,
    )
    bundle.network.unfreeze()
    bundle.provenance["history"] = fitted.history
    return Transferred(bundle, fitted.validation, seconds=0.0, fit=fitted, plan=plan)
