"""Checks of a recipe before any work starts: its data, architecture, candidates and MLflow."""

from collections.abc import Iterator
from pathlib import Path

from headstart.credentials import without_password
from headstart.data.reference import check as check_data
from headstart.data.section import Data
from headstart.errors import HeadstartError, InputError
from headstart.metrics.task import MULTI_LABEL, REGRESSION
from headstart.modalities import modality
from headstart.models.architectures import MAPS, build_network, check_reads, network_for
from headstart.models.reference import RECORD, unpinned
from headstart.models.sources import is_search, load_source, pin_sources
from headstart.recipe.inputs import settled_input
from headstart.recipe.recipe import Recipe
from headstart.storage import s3
from headstart.tracking import database, registry
from headstart.tracking.client import connect, explained
from headstart.tracking.store import is_there, open_record
from headstart_pipelines.resolve import at, refuse_unlabelled


def check(recipe: Recipe, workspace: Path) -> Iterator[str]:
    """A line for each thing that was found in order, as it is found.

    Raises:
        InputError: the first thing that is not.
    """
    yield f"recipe      {recipe.name}: pipeline {recipe.pipeline}, {len(recipe.strategies)} strategies"
    kind = modality(recipe.modality)
    kind.require_packages()
    for strategy in recipe.strategies:
        with at(f"strategies.{strategy.name}"):
            strategy.require_packages()
    if recipe.source.data:
        yield _data("source", recipe.source.data, recipe)
        if not recipe.source.pretraining.start:
            yield _architecture(recipe)
    if recipe.target:
        yield _data("target", recipe.target.data, recipe)
    uri = open_record(workspace, writing=True)
    _check_mlflow(uri)
    yield f"MLflow      {without_password(uri)}"
    if recipe.source.data and (start := recipe.source.pretraining.start):
        with at("source.pretraining.start"):
            if is_search(start):
                raise InputError(f"{start} may name several models, and a training starts from one; name its version.")
        for pinned in _models(start, recipe, uri, "source.pretraining.start"):
            yield f"start       {pinned}"
    for candidate in recipe.source.candidates:
        for pinned in _models(candidate, recipe, uri, "source.candidates"):
            yield f"candidate   {pinned}"


@s3.listed_once()
def _data(role: str, data: Data, recipe: Recipe) -> str:
    with at(f"{role}.data"):
        refuse_unlabelled(role, data, recipe)
        labels = data.labels_for(role)
        summary = check_data(data.uri, modality_name=recipe.modality, labels=labels, given=data.input, task=data.task)
        data.learned_as(summary.task)
    if role == "target":
        recipe.evaluation.for_task(summary.task, summary.looks)
    samples = sum(summary.samples.values())
    classes = "without labels" if list(summary.samples) == [""] else f"in {len(summary.samples)} classes"
    if summary.task == REGRESSION:
        classes = "with numbers"
    if summary.task == MULTI_LABEL:
        classes = "with several labels each"
    line = f"{role:<11} {data.uri}: {samples} samples {classes}"
    if summary.looks:
        line += f"\n            {summary.looks}"
    if data.label_budget and samples <= data.label_budget:
        raise InputError(
            f"{role}.data.label_budget is {data.label_budget}, but {data.uri} has only {samples} samples, and the test "
            "split needs some; lower it."
        )
    if data.labels_per_class:
        fewest = min(summary.samples, key=lambda label: summary.samples[label])
        if summary.samples[fewest] < data.labels_per_class + 1:
            raise InputError(
                f"{role}.data.labels_per_class is {data.labels_per_class}, but class {fewest!r} in {data.uri} has only "
                f"{summary.samples[fewest]} samples, of which the test split needs one; lower it."
            )
    if not summary.refused:
        return line
    # Only the first files of each class were opened, so there may be more.
    first = min(summary.refused, key=lambda refusal: refusal.path)
    count = f"{len(summary.refused)} {'file' if len(summary.refused) == 1 else 'files'}"
    return f"{line}; at least {count} will be refused, first {first.path}: {first.reason}"


def _check_mlflow(uri: str) -> None:
    if database.file_of(uri):
        return
    try:
        with explained():
            connect().search_experiments(max_results=1)
    except HeadstartError as error:
        raise InputError(str(error)) from error


def _architecture(recipe: Recipe) -> str:
    architecture = recipe.source.pretraining.architecture
    with at("source.pretraining.architecture"):
        kind = modality(recipe.modality)
        check_reads(architecture, kind)
        if kind.gives == MAPS and recipe.source.data:
            # Maps are as large as the recipe says; their values are not read here.
            given = kind.input.of(settled_input(recipe.source.data, recipe))
            network = network_for(architecture, kind.plain(given), classes=2)
        else:
            network = build_network(architecture, classes=2)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    _check_stages(recipe, architecture, len(network.stages))
    return f"architecture  {architecture}: {len(network.stages)} stages, {parameters:,} parameters"


def _models(uri: str, recipe: Recipe, store: str, key: str) -> Iterator[str]:
    """The pinned form of the model at a recipe's `key`, or of each that a search finds; it was loaded, and every
    strategy can use it."""
    with at(key):
        if uri.startswith(RECORD) and not is_there(store):
            raise InputError(
                f"{uri} names a model of MLflow's record, and this workspace has none yet; name the workspace "
                "of an earlier run with --workspace, or set MLFLOW_TRACKING_URI."
            )
        found = pin_sources([uri], resolve_registered=registry.resolve, search_registered=registry.search)
    for pinned in found:
        with at(key):
            bundle = load_source(pinned, modality=recipe.modality, fetch_registered=registry.fetch)
        _check_stages(recipe, unpinned(pinned), len(bundle.network.stages))
        yield pinned


def _check_stages(recipe: Recipe, model: str, stages: int) -> None:
    for strategy in recipe.strategies:
        strategy.check_stages(stages, model)
