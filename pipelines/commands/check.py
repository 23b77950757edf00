"""`headstart check`: a recipe, or the installation, before any work starts."""

import argparse

from headstart.errors import InputError
from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import WORKSPACE, Command, recipe


def _check(options: argparse.Namespace) -> None:
    if options.set and not options.recipe:
        raise InputError("--set changes a recipe; name its file, or remove --set.")
    with waiting(f"reading {options.recipe}" if options.recipe else "looking at the installation"):
        from headstart.recipe.recipe import load_recipe

        # Before what takes seconds to import: it may be all that there is to say.
        recipe = load_recipe(options.recipe, options.set) if options.recipe else None
        from headstart_pipelines.check import check
        from headstart_pipelines.health import health

    for line in check(recipe, options.workspace) if recipe else health():
        print(line)


COMMANDS = (
    Command(
        "check",
        _check,
        "validate a recipe and reach its data, sources and MLflow, without training; without one, the installation",
        "headstart check pipelines/recipes/digits.yaml",
        (*recipe(nargs="?"), WORKSPACE),
    ),
)
