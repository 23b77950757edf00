"""`headstart search`: sources, strategies and settings within a budget, and a run that judges what was found."""

import argparse
import json
import os
from typing import TYPE_CHECKING

from headstart_pipelines.commands.arguments import AMOUNT, JSON, WORKSPACE, Command, count, option, recipe, refused
from headstart_pipelines.commands.run import Interrupted, as_dict, carry_out, show
from headstart_pipelines.step_kinds import SPIN_COUNT

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.recipe.recipe import Recipe
    from headstart_pipelines.search import Found

_ON_CLUSTER = (
    "a search runs on one machine, as a step on a cluster costs half a minute beside its work; search with --no-run "
    "where the data and a GPU are, then `headstart submit` the recipe that it writes"
)


def search(options: argparse.Namespace) -> None:
    """Prints the trials as they go and the best of them, then runs the recipe that compares these.

    Raises:
        InputError: the recipe cannot be searched, or another process does.
        HeadstartError: no trial was complete within the budget, or a step of the run failed.
        Interrupted: Ctrl-C stopped it.
    """
    from headstart.recipe.recipe import load_recipe

    # Before what takes seconds to import: it may be all that there is to say.
    recipe = load_recipe(options.recipe, options.set)
    # Read by OpenMP when torch is loaded: threads that spin take the time of others.
    os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
    from headstart_pipelines import display

    console = display.console(stderr=options.json)
    found = _searched(recipe, options, console)
    outcome = None
    if not options.no_run:
        outcome, page = carry_out(found.recipe, options, console, image=None)
        if not options.json:
            show(console, outcome, page)
    if options.json:
        print(json.dumps({**found.to_dict(), "run": as_dict(outcome) if outcome else None}, indent=2))


def _searched(recipe: "Recipe", options: argparse.Namespace, console: "Console") -> "Found":
    """Search, and show what was found."""
    from headstart_pipelines import display
    from headstart_pipelines.search import budget_of
    from headstart_pipelines.search import search as search_recipe
    from headstart_pipelines.search_lines import SearchLines, show_found

    if not options.quiet:
        minutes = budget_of(options.minutes, options.trials)
        budget = [f"{minutes:g} minutes"] if minutes else []
        budget += [f"{options.trials} trials"] if options.trials else []
        console.print(f"[bold]{recipe.name}[/]  search for {' or '.join(budget)}", highlight=False)
    lines = SearchLines(console, recipe.evaluation.metric, trials=options.trials, quiet=options.quiet)
    try:
        found = search_recipe(
            recipe,
            options.workspace,
            minutes=options.minutes,
            trials=options.trials,
            watch=lines,
            display=display.Steps(console, verbose=options.verbose, quiet=options.quiet),
        )
    except KeyboardInterrupt:
        raise Interrupted("Interrupted. The same command goes on with the trials that are done.") from None
    finally:
        lines.close()
    if not options.json:
        show_found(console, found, runs=not options.no_run)
    return found


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not 0 < minutes < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number of minutes above 0")
    return minutes


COMMANDS = (
    Command(
        "search",
        search,
        "search sources, strategies and settings within a budget, then run the best",
        "headstart search site-b.yaml --minutes 30\n  headstart search digits --trials 20 --no-run --json",
        (
            *recipe(),
            option("--minutes", type=_minutes, metavar="M", help="the budget for everything before the final run, over "
                   "all sessions of the same search (default 30, or none with --trials)"),
            option("--trials", type=count, metavar="N", help="end after N trials"),
            option("--no-run", action="store_true", help="write the recipe of the best and do not run it, for example "
                   "to submit it to a cluster"),
            *(refused(name, _ON_CLUSTER) for name in ("--host", "--profile")),
            AMOUNT,
            JSON,
            WORKSPACE,
        ),
    ),
)  # fmt: skip
