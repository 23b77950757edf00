"""Pretraining: a source model from source data."""

from dataclasses import replace

import numpy as np
import torch

from headstart.data.dataset import Dataset
from headstart.errors import InputError
from headstart.metrics.task import SINGLE_LABEL, Calibration
from headstart.models.architectures import check_reads, network_for
from headstart.models.bundle import ModelBundle, versions
from headstart.models.reference import pin_of, unpinned
from headstart.models.widening import for_samples
from headstart.strategies.baseline import Like
from headstart.strategies.task import answer_as
from headstart.training.context import RunContext
from headstart.training.objective import OBJECTIVES
from headstart.training.plan import make_plan
from headstart.training.section import Pretraining
from headstart.training.trained import Trained


def pretrain(
    section: Pretraining, dataset: Dataset, context: RunContext, *, start: ModelBundle | None = None
) -> Trained:
    """Train the source that a recipe's section describes on `dataset`.

    One that was trained without labels has no head: its bundle has features and no classes. `start` is the model that
    `section.start` names, which is changed.

    Raises:
        InputError: the objective learns labels and the data set has none, or `start` reads other data.
    """
    objective = OBJECTIVES[section.objective]
    if start:
        bundle = _continued(start, dataset, context, labels=objective.learns_labels)
        bundle.provenance |= {"source": section.start, "source_digest": pin_of(section.start or "")}
    else:
        like = Like(section.architecture, dataset.manifest_input)
        bundle = untrained(like, dataset, context, labels=objective.learns_labels)
    bundle.provenance |= {"role": "source", "strategy": "pretraining"}
    if objective.learns_labels:
        bundle.provenance["head"], labels = "trained", dataset.split("train").labels
    else:
        bundle.provenance |= {"objective": section.objective, "head": "none"}
        labels = np.zeros(dataset.counts["train"], dtype=np.int64)
    plan = make_plan(section, labels, pretrained=start is not None, network=bundle.network)
    plan = objective.plan(plan)
    trained = objective.fit(bundle, dataset, plan, context.asking(bundle.task))
    params = {"architecture": bundle.architecture, **({"start": unpinned(section.start)} if section.start else {})}
    return replace(trained, params={**params, **trained.params})


def _continued(start: ModelBundle, dataset: Dataset, context: RunContext, *, labels: bool) -> ModelBundle:
    """`start` as it reads the samples of `dataset`, with a new head for its classes where `labels` are learned."""
    if start.modality != dataset.modality:
        raise InputError(
            f"source.pretraining.start reads {start.modality} data, and the source is {dataset.modality}; choose "
            "another start."
        )
    if labels:
        _require_labels(dataset)
    torch.manual_seed(context.seed)
    read = for_samples(start, dataset.given)
    read.network.unfreeze()
    if labels:
        answer_as(read.network, dataset)
    else:
        read.network.classify_only()
        read.network.replace_head(0)
    provenance = {**dataset.digests, "seed": context.seed, "versions": versions()}
    # What is made of a model stays under its licence.
    if licence := start.provenance.get("license"):
        provenance["license"] = licence
    classes = dataset.classes if labels else ()
    bundle = replace(read, classes=classes, provenance=provenance, task=dataset.task if classes else SINGLE_LABEL)
    bundle.calibration = Calibration()
    return bundle


def untrained(like: Like, dataset: Dataset, context: RunContext, *, labels: bool = True) -> ModelBundle:
    """A randomly initialised network for the samples of `dataset`, with an output for each class where `labels` are
    learned.

    Raises:
        InputError: the data set has no labels to learn.
    """
    if labels:
        _require_labels(dataset)
    classes = dataset.classes if labels else ()
    kind = dataset.kind
    check_reads(like.architecture, kind)
    torch.manual_seed(context.seed)
    fitted = kind.fit(dataset.samples("train"), kind.input.model_construct(**like.given))
    if wider := fitted.widened(dataset.given):
        # As a source that read fewer channels is widened, so that what starts from it is compared with its like.
        fitted = kind.fit(dataset.samples("train"), wider.preprocessing.given)
    # New files are read as these samples were, whatever the source's own reading is.
    preprocessing = fitted.read_as(dataset.given)
    network = network_for(like.architecture, preprocessing, classes=len(classes))
    if classes:
        answer_as(network, dataset)
    return ModelBundle(
        network=network,
        architecture=like.architecture,
        modality=dataset.modality,
        preprocessing=preprocessing,
        classes=classes,
        provenance={**dataset.digests, "source": None, "seed": context.seed, "versions": versions()},
        task=dataset.task if classes else SINGLE_LABEL,
    )


def _require_labels(dataset: Dataset) -> None:
    if not dataset.classes:
        raise InputError(
            f"{dataset.manifest['source']['uri']} has no class folders, so its samples have no labels to train on; lay "
            "them out as <class>/<file>, or pretrain on them with source.pretraining.objective vicreg."
        )
