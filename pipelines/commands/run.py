"""`headstart run`: a recipe on this machine."""

import argparse
from pathlib import Path

from headstart.errors import InputError
from headstart.version import __version__
from headstart_pipelines.commands.arguments import WORKSPACE, Command, option, recipe
from headstart_pipelines.commands.tracking import is_server


def _run(options: argparse.Namespace) -> None:
    from headstart.recipe.recipe import load_recipe

    # Before what takes seconds to import: it may be all that there is to say.
    recipe = load_recipe(options.recipe, options.set)
    from headstart.credentials import without_password
    from headstart.tracking.store import open_record
    from headstart_components import IMAGE
    from headstart_pipelines import display
    from headstart_pipelines.local import run
    from headstart_pipelines.resolve import resolve

    if options.image and options.runner != "docker":
        raise InputError(
            f"--image {options.image} has a meaning with --runner docker only; add that, or remove --image."
        )
    image = (options.image or IMAGE) if options.runner == "docker" else None
    uri = open_record(options.workspace.absolute(), writing=True)
    console = display.console()
    console.print(
        f"[bold]{recipe.name}[/]  pipeline {recipe.pipeline}"
        + (f", {len(recipe.strategies)} strategies, {len(recipe.baselines)} baselines" if recipe.target else ""),
        highlight=False,
    )
    outcome = run(
        resolve(recipe),
        options.workspace,
        display.Steps(console, verbose=options.verbose),
        image=image,
    )
    console.print()
    if outcome.leaderboard:
        board = outcome.leaderboard
        console.print(display.leaderboard_table(board.rows(), chosen=[entry.chosen for entry in board.entries]))
        console.print(display.verdict(board.sentence, board.facts.values()), highlight=False)
    lines = [("delivered", outcome.leaderboard.delivery)] if outcome.leaderboard else []
    lines.append(("registered", "  ".join(outcome.registered)))
    if outcome.reused:
        lines.append(("reused", f"{len(outcome.reused)} unchanged steps: {', '.join(outcome.reused)}"))
    if outcome.report:
        lines.append(("report", str(_short(outcome.report))))
    lines.append(("log", str(_short(outcome.log))))
    page = without_password(uri) if is_server(uri) else f"headstart ui --workspace {options.workspace}"
    lines.append(("MLflow page", page))
    display.show_facts(console, lines)


def _short(path: Path) -> Path:
    """`path` relative to the working directory where it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


COMMANDS = (
    Command(
        "run",
        _run,
        "run a recipe on this machine",
        "headstart run pipelines/recipes/digits.yaml",
        (
            *recipe(),
            WORKSPACE,
            option("--runner", choices=("subprocess", "docker"), default="subprocess", help="steps are processes, or "
                   "containers as on a cluster, on the Docker network that HEADSTART_DOCKER_NETWORK names (default "
                   "subprocess)"),
            option("--image", metavar="NAME", help=f"the image of --runner docker (default headstart:{__version__})"),
            option("--verbose", action="store_true", help="stream the steps' logs"),
        ),
    ),
)  # fmt: skip
