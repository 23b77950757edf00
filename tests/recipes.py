"""Recipes that ship, run as a user runs them."""

import json
from pathlib import Path
from typing import Any

from headstart.recipe.recipe import load_recipe
from tests.commands import headstart
from tests.packages import run_python

_FOLDER = Path(__file__).parents[1] / "pipelines" / "recipes"


def run_recipe(name: str, workspace: Path, *overrides: str) -> tuple[str, list[dict[str, Any]]]:
    """What a run of the recipe called `name`, with KEY=VALUE `overrides`, prints in the working directory, and the rows
    of its leaderboard."""
    recipe, place = _FOLDER / f"{name}.yaml", ("--workspace", str(workspace))
    given = [word for each in overrides for word in ("--set", each)]
    said = run_python("-m", "headstart_pipelines.cli", "run", str(recipe), *place, *given)
    experiment = load_recipe(recipe).name
    return said, json.loads(headstart("compare", experiment, "--json", *place))
