"""The recipe that a registered version came from."""

from typing import TYPE_CHECKING

from headstart.data.reference import fingerprint
from headstart.errors import InputError
from headstart.recipe.recipe import Recipe
from headstart.tracking.registry import find_version, stored_recipe

if TYPE_CHECKING:
    from mlflow import MlflowClient


def recipe_of(client: "MlflowClient", uri: str) -> tuple[str, Recipe]:
    """The version that `models:/name@alias`, `models:/name/version` or `models:/name` is, as models:/name/version, and
    the recipe that is kept with it. It names the data where they were, and a target's source by its version.

    Raises:
        InputError: there is no such version, it keeps no recipe, or none that this headstart understands.
    """
    version = find_version(client, uri)
    name = f"models:/{version.name}/{version.version}"
    values = stored_recipe(client, version)
    if values is None:
        raise InputError(f"{name} keeps no recipe that could be run again; run its recipe's file with headstart run.")
    return name, Recipe.of(values, at=f"the recipe of {name}")


def has_same_data(recipe: Recipe) -> bool:
    """Whether the data of a recipe that has run are what they were then, so that it would give the same model again;
    False where that is not known."""
    parts = [recipe.source.data, recipe.target.data if recipe.target else None]
    return all(data.fingerprint and data.fingerprint == fingerprint(data.uri) for data in parts if data)
