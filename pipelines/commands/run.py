"""`headstart run` and `headstart demo`: a recipe on this machine."""

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, InputError
from headstart.version import __version__
from headstart_pipelines.commands.arguments import AMOUNT, JSON, WORKSPACE, Command, names, option, recipe
from headstart_pipelines.commands.tracking import is_server, page_command

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.recipe.recipe import Recipe
    from headstart_pipelines.local import Outcome

_PACKAGE = Path(__file__).parents[1]


class Interrupted(HeadstartError):  # noqa: N818 - a run's state
    """A run that Ctrl-C stopped."""

    exit_code = 130


def _run(options: argparse.Namespace) -> None:
    from headstart.recipe.recipe import load_recipe

    # Before what takes seconds to import: it may be all that there is to say.
    recipe = load_recipe(options.recipe, options.set)
    from headstart_components import IMAGE

    if options.image and options.runner != "docker":
        raise InputError(
            f"--image {options.image} has a meaning with --runner docker only; add that, or remove --image."
        )
    _run_and_show(recipe, options, image=(options.image or IMAGE) if options.runner == "docker" else None)


def _demo(options: argparse.Namespace) -> None:
    from headstart.recipe.recipe import load_recipe
    from headstart_pipelines.demo import main

    main(Path("demo"))
    _run_and_show(load_recipe(_PACKAGE / "recipes" / "digits.yaml"), options, image=None)


def carry_out(
    recipe: "Recipe", options: argparse.Namespace, console: "Console", *, image: str | None
) -> "tuple[Outcome, str]":
    """Run a recipe and show its steps as they go; return the outcome and where the MLflow page is.

    Raises:
        Interrupted: Ctrl-C stopped it.
    """
    from headstart_pipelines import display
    from headstart_pipelines.runner.workers import workers

    if not options.quiet:
        contenders = f", {len(recipe.strategies)} strategies, {len(recipe.baselines)} baselines"
        console.print(
            f"[bold]{recipe.name}[/]  pipeline {recipe.pipeline}{contenders if recipe.target else ''}", highlight=False
        )
    try:
        with contextlib.nullcontext() if image else workers() as processes:
            from headstart.credentials import without_password
            from headstart.tracking.store import open_record
            from headstart_pipelines.local import run
            from headstart_pipelines.resolve import resolve

            uri = open_record(options.workspace.absolute(), writing=True)
            page = without_password(uri) if is_server(uri) else page_command(options.workspace)
            if not options.quiet:
                display.show_facts(console, [("MLflow page", page)])
            steps = display.Steps(console, verbose=options.verbose, quiet=options.quiet)
            return run(resolve(recipe), options.workspace, steps, processes=processes, image=image), page
    except KeyboardInterrupt:
        raise Interrupted("Interrupted. The same command goes on from what is done.") from None


def _run_and_show(recipe: "Recipe", options: argparse.Namespace, *, image: str | None) -> None:
    from headstart_pipelines import display

    # With --json, standard output is for the program that reads it.
    console = display.console(stderr=options.json)
    outcome, page = carry_out(recipe, options, console, image=image)
    if options.json:
        print(json.dumps(as_dict(outcome), indent=2))
    else:
        show(console, outcome, page)


def show(console: "Console", outcome: "Outcome", page: str) -> None:
    """Print a run's leaderboard, its verdict and where its results are."""
    from headstart_pipelines import display

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
        lines.append(("report", str(display.short(outcome.report))))
    lines.append(("log", str(display.short(outcome.log))))
    lines.append(("MLflow page", page))
    display.show_facts(console, lines)


def as_dict(outcome: "Outcome") -> dict[str, Any]:
    """A run's outcome as JSON values; what a recipe without a target lacks is null."""
    board = outcome.leaderboard
    return {
        "run": outcome.log.stem,
        "run_id": outcome.run_id,
        "verdict": board.sentence.partition(":")[0] if board else None,
        "sentence": board.sentence if board else None,
        "facts": list(board.facts.values()) if board else [],
        "delivered": board.delivery if board else None,
        "leaderboard": board.rows() if board else [],
        "registered": list(outcome.registered),
        "reused": list(outcome.reused),
        "report": str(outcome.report) if outcome.report else None,
        "log": str(outcome.log),
    }


COMMANDS = (
    Command(
        "demo",
        _demo,
        "transfer from MNIST to the digits of another scanner: two minutes, data in demo/",
        "headstart demo",
        (AMOUNT, JSON, WORKSPACE),
    ),
    Command(
        "run",
        _run,
        "run a recipe on this machine",
        f"headstart run site-b.yaml\n  headstart run {names('recipes')[0]} --set training.epochs=2 --json",
        (
            *recipe(),
            option("--runner", choices=("subprocess", "docker"), default="subprocess", help="steps are processes, or "
                   "containers as on a cluster, on the Docker network that HEADSTART_DOCKER_NETWORK names (default "
                   "subprocess)"),
            option("--image", metavar="NAME", help=f"the image of --runner docker (default headstart:{__version__})"),
            AMOUNT,
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
