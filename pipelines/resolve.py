"""From a recipe as written to one that says exactly what will run: absolute data, fingerprints, sizes, pinned models.

Nothing that is left open here can change between two runs of the same resolved recipe, which is what makes reuse of
unchanged steps true.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headstart.config import Data, Recipe
from headstart.data.reference import fingerprint, has_no_labels, local_folder
from headstart.errors import InputError
from headstart.modalities import modality
from headstart.models.reference import pin_of
from headstart.models.sources import pin_source
from headstart.tracking import registry


def resolve(recipe: Recipe) -> Recipe:
    """The resolved recipe.

    Raises:
        InputError: data or a candidate cannot be reached; it is named.
    """
    size = input_size(recipe)
    source = recipe.source.model_copy(
        update={
            "data": _resolve_data("source", recipe.source.data, recipe, size) if recipe.source.data else None,
            "candidates": tuple(_pin(uri) for uri in recipe.source.candidates),
        }
    )
    target = recipe.target and recipe.target.model_copy(
        update={"data": _resolve_data("target", recipe.target.data, recipe, size)}
    )
    return recipe.model_copy(update={"source": source, "target": target})


def input_size(recipe: Recipe) -> int:
    """The side in pixels at which samples are stored where the recipe names none: what the architecture reads.

    With candidates only, that is 224 where one comes from torchvision, else the default architecture's.
    """
    kind = modality(recipe.modality)
    if recipe.source.data:
        return kind.default_size(recipe.source.pretraining.architecture)
    published = [uri for uri in recipe.source.candidates if uri.startswith("torchvision://")]
    architecture = published[0].removeprefix("torchvision://").partition("/")[0] if published else None
    return kind.default_size(architecture or kind.default_architecture)


@contextmanager
def at(key: str) -> Iterator[None]:
    """Puts the recipe's key before the message of an InputError that is about its value."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{key}: {error}") from error


def refuse_unlabelled(role: str, data: Data, recipe: Recipe) -> None:
    """InputError if the data lies in a folder without class folders and its labels are learned."""
    if data.labels == "none" or not has_no_labels(data.uri, modality_name=recipe.modality):
        return
    if role == "target":
        raise InputError(f"{data.uri} has no class folders; lay a target's images out as <class>/<file>.")
    if recipe.source.pretraining.objective == "supervised":
        raise InputError(
            f"{data.uri} has no class folders, and pretraining.objective supervised learns labels; lay its images out "
            "as <class>/<file>, or set source.pretraining.objective to vicreg."
        )
    if data.labels_per_class:
        raise InputError(f"{data.uri} has no class folders, so labels_per_class has no meaning; remove it.")


def _resolve_data(role: str, data: Data, recipe: Recipe, size: int) -> Data:
    with at(f"{role}.data"):
        folder: Path = local_folder(data.uri)
        refuse_unlabelled(role, data, recipe)
    return data.model_copy(
        update={"uri": str(folder), "fingerprint": fingerprint(str(folder)), "size": data.size or size}
    )


def _pin(uri: str) -> str:
    with at("source.candidates"):
        return uri if pin_of(uri) else pin_source(uri, resolve_registered=registry.resolve)
