"""What is read of a sample where a recipe leaves that open: what the architecture of its source reads."""

from typing import Any

from headstart.data.section import Data
from headstart.modalities import modality
from headstart.recipe.recipe import Recipe


def settled_input(data: Data, recipe: Recipe) -> dict[str, Any]:
    """Return `data.input`, with what the recipe leaves open as the architecture reads it.

    With candidates only, that is the one of the first that comes from torchvision, else the default architecture.
    """
    kind = modality(recipe.modality)
    published = [uri for uri in recipe.source.candidates if uri.startswith("torchvision://")]
    architecture = kind.default_architecture
    if recipe.source.data:
        architecture = recipe.source.pretraining.architecture
    elif published:
        architecture = published[0].removeprefix("torchvision://").partition("/")[0]
    # KFP knows no null.
    return {key: value for key, value in kind.settled(data.input, architecture).items() if value is not None}
