"""A first recipe for a folder of samples: what is seen there, and what of it a person may want to change."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from headstart.data.reference import Summary
from headstart.data.reference import check as look
from headstart.errors import InputError
from headstart.metrics.task import MULTI_LABEL, REGRESSION, SINGLE_LABEL
from headstart.modalities import MODALITIES
from headstart.models.reference import HUB, RECORD, TIMM, TORCHVISION, WEB, is_weights
from headstart.training.section import Pretraining

_MODELS = (*RECORD, TIMM, HUB, *WEB)
# By these, folders with a model are told from samples.
_DESCRIPTIONS = ("model.json", "config.json")
_PUBLISHED = "torchvision://resnet18/IMAGENET1K_V1"
# With fewer, every contender is trained on too little to tell them apart.
_FEW = 10
_LISTED_CLASSES = 8
_LONGEST_NAME = 50


@dataclass(frozen=True)
class Draft:
    """A recipe's text, and what was seen of the target's samples."""

    name: str
    text: str
    summary: Summary
    modality: str


def draft_recipe(target: str, source: str | None = None) -> Draft:
    """Return a commented recipe that transfers `source` to the samples at `target`.

    Args:
        target: a data reference with labels, for example a folder with one folder a class.
        source: data to pretrain on, or the address of a model; None: published ImageNet weights, for pictures.

    Raises:
        InputError: the data do not exist, hold no samples of a known kind or no labels, or `source` is missing where
            there is no published model.
    """
    modality, summary = _seen(target)
    counts, task = summary.samples, summary.task
    if modality != "image" and source is None:
        raise InputError(
            f"{target} holds {MODALITIES[modality].noun}s, for which there are no published weights; name what to "
            "start from with --source: other samples, or a model."
        )
    name = name_of(target)
    fewest = min(counts.values())
    lines = [
        f"# {sum(counts.values())} {MODALITIES[modality].noun}s {_labelled(counts, task)}",
        "# headstart check tells what is wrong with it, headstart run carries it out.",
        f"name: {name}  # of the experiment; it registers {name}-target",
        f"modality: {modality}",
        *_source_lines(source or _PUBLISHED, modality),
        "target:",
        "  data:",
        f"    uri: {_scalar(target)}",
        *_split_lines(summary),
        *_budget_lines(fewest, task),
        "# strategies: [zero, linear_probe, partial, full]  # what is compared; the default suits most data",
        "# training: {epochs: 30}  # the budget of each training; the default follows from the number of samples",
        "evaluation:",
        _METRIC_LINES[task],
    ]
    if fewest < _FEW and task == SINGLE_LABEL:
        lines.insert(1, f"# The smallest class has {fewest}: a verdict that means something takes more.")
    return Draft(name, "\n".join(lines) + "\n", summary, modality)


_METRIC_LINES = {
    SINGLE_LABEL: "  metric: accuracy  # macro_f1 where classes differ much in size",
    MULTI_LABEL: "  metric: mean_average_precision  # macro_f1, micro_f1 for the labels as they are given",
    REGRESSION: "  metric: mae  # the mean absolute error, in the unit of the number; rmse or r2 instead",
}


def _labelled(counts: Mapping[str, int], task: str) -> str:
    if task != SINGLE_LABEL:
        return "with a number each" if task == REGRESSION else "with several labels each"
    shown = ", ".join(f"{label} {count}" for label, count in list(counts.items())[:_LISTED_CLASSES])
    return f"in {len(counts)} classes: {shown}{', …' if len(counts) > _LISTED_CLASSES else ''}"


def _budget_lines(fewest: int, task: str) -> list[str]:
    if task != SINGLE_LABEL:
        what = "the label is a number" if task == REGRESSION else "a sample has several labels, with a ; between them"
        return [
            f"    task: {task}  # {what}",
            f"    # label_budget: {max(2, fewest // 2)}  # as if only so many had one",
        ]
    return [f"    # labels_per_class: {max(1, fewest // 2)}  # as if only so many of each class had a label"]


def _seen(uri: str) -> tuple[str, Summary]:
    """The modality whose files the reference holds, and its summary."""
    first: InputError | None = None
    for name in sorted(MODALITIES.built_in, key=lambda each: each != "image"):
        try:
            return name, look(uri, modality_name=name, labels="required")
        except InputError as error:
            first = first or error
    raise first or InputError(f"{uri} holds no samples.")


def is_model(uri: str) -> bool:
    """Return whether an address is that of a model, as far as it says, or of samples."""
    if uri.startswith(TORCHVISION):
        # A data set of torchvision has a name only, weights stand behind their architecture.
        return "/" in uri.removeprefix(TORCHVISION)
    path = Path(uri.removeprefix("file://"))
    described = any((path / name).is_file() for name in _DESCRIPTIONS)
    return uri.startswith(_MODELS) or described or is_weights(path.name)


def _source_lines(source: str, modality: str) -> list[str]:
    if is_model(source):
        return [
            "source:",
            "  candidates:  # the best of these is found by a probe; a registry's model is models:/NAME@champion",
            f"    - {_scalar(source)}",
        ]
    task = ", task: regression" if _is_measured(source, modality) else ""
    lines = ["source:", f"  data: {{uri: {_scalar(source)}{task}}}  # a model is pretrained on these"]
    if modality == "image":
        return [*lines, f"  # candidates: [{_PUBLISHED}]  # and compared with models that exist"]
    architecture = MODALITIES[modality].default_architecture
    if architecture != Pretraining().architecture:
        lines.append(f"  pretraining: {{architecture: {architecture}}}  # this network")
    return [*lines, "  # candidates: [models:/NAME@champion]  # and compared with models that exist"]


def _is_measured(uri: str, modality: str) -> bool:
    """Whether labels at `uri` are numbers; what is wrong there, check says."""
    try:
        return look(uri, modality_name=modality, labels="optional").task == REGRESSION
    except InputError:
        return False


def _split_lines(summary: Summary) -> list[str]:
    if summary.splits:
        return [f"    # The folders {', '.join(summary.splits)} are the splits; what is missing is taken from train."]
    return ["    split: {train: 0.7, val: 0.15, test: 0.15}  # by content: files that are added later move no other"]


def name_of(uri: str) -> str:
    """Return a name for an experiment, from the last part of its target's address."""
    stem = re.sub(r"[^a-z0-9]+", "-", Path(uri.rstrip("/")).name.partition(".")[0].lower()).strip("-")
    return stem[:_LONGEST_NAME] or "data"


def _scalar(text: str) -> str:
    """Text as a YAML scalar on one line."""
    return yaml.safe_dump(text, width=10**6, allow_unicode=True, default_flow_style=True).splitlines()[0]
