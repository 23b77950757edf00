"""Everything that can be found wrong with a recipe before any work starts."""

import os
from collections.abc import Iterator
from pathlib import Path

from headstart.config import Data, Recipe
from headstart.data.reference import check as check_data
from headstart.errors import InputError
from headstart.models.architectures import build_network
from headstart.models.sources import pin_source
from headstart.tracking import registry
from headstart.tracking.client import connect, explained
from pipelines.local import tracking_uri


def check(recipe: Recipe, workspace: Path) -> Iterator[str]:
    """A line for each thing that was found in order, as it is found.

    Raises:
        InputError: the first thing that is not.
    """
    yield f"recipe      {recipe.name}: pipeline {recipe.pipeline}, {len(recipe.strategies)} strategies"
    if recipe.source.data:
        yield _data("source", recipe.source.data, recipe)
        architecture = recipe.source.pretraining.architecture
        network = build_network(architecture, classes=2)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        yield f"architecture  {architecture}: {len(network.stages)} stages, {parameters:,} parameters"
        _check_freezing(recipe, len(network.stages))
    if recipe.target:
        yield _data("target", recipe.target.data, recipe)
    os.environ["MLFLOW_TRACKING_URI"] = uri = tracking_uri(workspace)
    if not uri.startswith("sqlite:"):
        with explained():
            connect().search_experiments(max_results=1)
    yield f"MLflow      {uri}"
    for candidate in recipe.source.candidates:
        yield f"candidate   {pin_source(candidate, resolve_registered=registry.resolve)}"


def _data(role: str, data: Data, recipe: Recipe) -> str:
    summary = check_data(data.uri, modality_name=recipe.modality)
    images = sum(summary.images.values())
    line = f"{role:<11} {data.uri}: {images} images in {len(summary.images)} classes"
    if data.labels_per_class:
        fewest = min(summary.images, key=lambda label: summary.images[label])
        if summary.images[fewest] < data.labels_per_class + 2:
            raise InputError(
                f"{role}.data.labels_per_class is {data.labels_per_class}, but class {fewest!r} in {data.uri} has only "
                f"{summary.images[fewest]} images, of which validation and test need one each; lower it."
            )
    return line + (f"; {len(summary.refused)} files will be refused" if summary.refused else "")


def _check_freezing(recipe: Recipe, stages: int) -> None:
    for strategy in recipe.strategies:
        if strategy.freeze is not None and strategy.freeze > stages:
            raise InputError(
                f"strategies.{strategy.name}.freeze is {strategy.freeze}, but "
                f"{recipe.source.pretraining.architecture} has {stages} stages; freeze at most {stages}."
            )
