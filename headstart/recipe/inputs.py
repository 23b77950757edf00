"""What is read of a sample where a recipe leaves that open: what the architecture of its source reads."""

from typing import Any

from headstart.data.section import Data
from headstart.modalities import modality
from headstart.models.reference import published_architecture
from headstart.recipe.recipe import Recipe


def settled_input(data: Data, recipe: Recipe) -> dict[str, Any]:
    """Return `data.input`, with what the recipe leaves open as the architecture reads it.

    Where no weights begin at random, that is the one of the first model that comes from elsewhere, else the default
    architecture.
    """
    kind = modality(recipe.modality)
    published = [named for uri in recipe.source.models if (named := published_architecture(uri))]
    architecture = kind.default_architecture
    if recipe.source.data and not recipe.source.pretraining.start:
        architecture = recipe.source.pretraining.architecture
    elif published:
        architecture = published[0]
    # KFP knows no null.
    return {key: value for key, value in kind.settled(data.input, architecture).items() if value is not None}
