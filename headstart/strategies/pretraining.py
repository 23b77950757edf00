"""Pretraining: a source model from source data, and the same architecture from scratch on the target."""

from dataclasses import replace

import numpy as np

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.models.bundle import ModelBundle, versions
from headstart.models.preprocessing import Preprocessing
from headstart.training.engine import OnEpoch
from headstart.training.plan import Plan, make_plan
from headstart.training.progress import Progress
from headstart.training.section import Pretraining, Training
from headstart.training.self_supervised import fit_without_labels
from headstart.training.supervised import Fit, fit


def pretrain(
    pretraining: Pretraining,
    dataset: Dataset,
    *,
    seed: int = 0,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
) -> tuple[ModelBundle, Fit, Plan]:
    """The source that a recipe's section describes, trained on `dataset`.

    One that was trained without labels has no head: its bundle has features and no classes.

    Raises:
        InputError: the objective learns labels and the data set has none.
    """
    if pretraining.objective == "supervised":
        return train_from_scratch(
            pretraining.architecture,
            dataset,
            training=pretraining,
            role="source",
            seed=seed,
            on_epoch=on_epoch,
            progress=progress,
            label="pretraining",
        )
    bundle = _untrained(pretraining.architecture, dataset, classes=(), seed=seed)
    bundle.provenance |= {
        "role": "source",
        "strategy": "pretraining",
        "objective": pretraining.objective,
        "head": "none",
    }
    unread = np.zeros(dataset.counts["train"], dtype=np.int64)
    plan = make_plan(pretraining, unread, pretrained=False)
    plan = replace(plan, augmentation="views", patience=plan.epochs)
    fitted = fit_without_labels(bundle, dataset, plan, seed=seed, on_epoch=on_epoch, progress=progress)
    bundle.provenance |= {"history": fitted.history, "kept_epoch": fitted.best_epoch}
    return bundle, fitted, plan


def train_from_scratch(
    architecture: str,
    dataset: Dataset,
    *,
    training: Training,
    role: str,
    metric: str = "accuracy",
    seed: int = 0,
    size: int | None = None,
    channels: int | None = None,
    on_epoch: OnEpoch | None = None,
    progress: Progress | None = None,
    label: str = "training",
) -> tuple[ModelBundle, Fit, Plan]:
    """A randomly initialised `architecture`, trained on the labels of `dataset`.

    `size` and `channels` are those of the network's input, by default those of the stored samples. `role` is
    `source` when this is pretraining and `baseline` when it is what a transfer has to beat.

    Raises:
        InputError: the data set has no labels.
    """
    if not dataset.classes:
        raise InputError(
            f"{dataset.manifest['source']['uri']} has no class folders, so its samples have no labels to train on; lay "
            "them out as <class>/<file>, or pretrain on them with source.pretraining.objective vicreg."
        )
    bundle = _untrained(architecture, dataset, classes=dataset.classes, seed=seed, size=size, channels=channels)
    strategy = "scratch" if role == "baseline" else "pretraining"
    bundle.provenance |= {"role": role, "strategy": strategy, "head": "trained"}
    plan = make_plan(training, dataset.split("train").labels, pretrained=False)
    fitted = fit(bundle, dataset, plan, metric=metric, seed=seed, on_epoch=on_epoch, progress=progress, name=label)
    bundle.provenance |= {"history": fitted.history, "kept_epoch": fitted.best_epoch}
    return bundle, fitted, plan


def _untrained(
    architecture: str,
    dataset: Dataset,
    *,
    classes: tuple[str, ...],
    seed: int,
    size: int | None = None,
    channels: int | None = None,
) -> ModelBundle:
    """A randomly initialised network for the samples of `dataset`, with an output for each of `classes`."""
    import torch

    height, _, stored_channels = dataset.shape
    torch.manual_seed(seed)
    preprocessing = Preprocessing.fit(
        dataset.split("train").samples, size=size or height, channels=channels or stored_channels
    )
    return ModelBundle(
        network=build_network(architecture, classes=len(classes), channels=preprocessing.channels),
        architecture=architecture,
        modality=dataset.modality,
        preprocessing=preprocessing,
        classes=classes,
        provenance={**dataset.digests, "source": None, "seed": seed, "versions": versions()},
    )
