"""`headstart search`: sources, strategies and settings within a budget, and a run that judges what was found."""

import argparse
import json
import os
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import (
    AMOUNT,
    JSON,
    WORKSPACE,
    Command,
    count,
    group,
    option,
    placement,
    recipe,
)
from headstart_pipelines.commands.run import Interrupted, as_dict, carry_out, show
from headstart_pipelines.commands.server import SERVER, compiled, connected, submitted
from headstart_pipelines.step_kinds import SPIN_COUNT

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.recipe.recipe import Recipe
    from headstart_pipelines.search import Found
    from headstart_pipelines.search_lines import SearchLines

_AT_ONCE = 4


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
    # Not HEADSTART_KFP_HOST: who has set it still searches here.
    if options.host or options.profile:
        _search_on_cluster(recipe, options)
        return
    for name in ("image", "allow_tag", "at_once"):
        if getattr(options, name):
            raise InputError(
                f"--{name.replace('_', '-')} has a meaning on a cluster only; name that with --host and --profile."
            )
    from headstart_pipelines import display

    console = display.console(stderr=options.json)
    found = _shown(recipe, options, console, lambda lines: _search_here(recipe, options, console, lines))
    outcome = None
    if not options.no_run:
        outcome, page = carry_out(found.recipe, options, console, image=None)
        if not options.json:
            show(console, outcome, page)
    if options.json:
        print(json.dumps({**found.to_dict(), "run": as_dict(outcome) if outcome else None}, indent=2))


def _search_here(recipe: "Recipe", options: argparse.Namespace, console: "Console", lines: "SearchLines") -> "Found":
    from headstart_pipelines import display
    from headstart_pipelines.search import search as search_recipe

    try:
        return search_recipe(
            recipe,
            options.workspace,
            minutes=options.minutes,
            trials=options.trials,
            watch=lines,
            display=display.Steps(console, verbose=options.verbose, quiet=options.quiet),
        )
    except KeyboardInterrupt:
        raise Interrupted("Interrupted. The same command goes on with the trials that are done.") from None


def _search_on_cluster(recipe: "Recipe", options: argparse.Namespace) -> None:
    """Search by runs on a cluster, then submit the recipe of the best and follow it."""
    with waiting("compiling the pipelines"):
        from headstart_pipelines import display
        from headstart_pipelines.catalog import Job
        from headstart_pipelines.cluster.follow import watch_run
        from headstart_pipelines.cluster.search import Cluster, search_on_cluster

        # The package of the whole recipe is not sent; compiling it refuses what the final run would be refused for.
        resolved, _, profile = compiled(recipe, options)
        server = connected(options)
    at_once = options.at_once or profile.parallelism or _AT_ONCE
    cluster = Cluster(server, profile, options.image, options.allow_tag, at_once)
    console = display.console(stderr=options.json)

    def run(lines: "SearchLines") -> "Found":
        try:
            return search_on_cluster(
                resolved, options.workspace, cluster, minutes=options.minutes, trials=options.trials, watch=lines,
                stderr=options.json,
            )  # fmt: skip
        except KeyboardInterrupt:
            raise Interrupted(
                "Interrupted. The trials at work go on, and the same command goes on with them; `headstart runs "
                f"--experiment {recipe.name}` lists them, `headstart terminate RUN` stops one."
            ) from None

    found = _shown(recipe, options, console, run)
    submission = None
    if not options.no_run:
        final, package, profile = compiled(found.recipe, options)
        submission = submitted(server, Job.of(final), package, profile, console)
        watch_run(server, submission.run_id, submission.run, stderr=options.json)
        console.print(f"`headstart compare {final.name}` shows whether it helped.", highlight=False)
    if options.json:
        print(json.dumps({**found.to_dict(), "run": asdict(submission) if submission else None}, indent=2))


def _shown(
    recipe: "Recipe", options: argparse.Namespace, console: "Console", run: "Callable[[SearchLines], Found]"
) -> "Found":
    """Search by `run`, and show the budget, the trials and what was found."""
    from headstart_pipelines.search import budget_of
    from headstart_pipelines.search_lines import SearchLines, show_found

    if not options.quiet:
        minutes = budget_of(options.minutes, options.trials)
        budget = [f"{minutes:g} minutes"] if minutes else []
        budget += [f"{options.trials} trials"] if options.trials else []
        console.print(f"[bold]{recipe.name}[/]  search for {' or '.join(budget)}", highlight=False)
    lines = SearchLines(console, recipe.evaluation.metric, trials=options.trials, quiet=options.quiet)
    try:
        found = run(lines)
    finally:
        lines.close()
    if not options.json:
        show_found(console, found, runs=not options.no_run, on_cluster=bool(options.host or options.profile))
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
        "headstart search site-b.yaml --minutes 30\n  headstart search digits --trials 20 --no-run --json\n"
        "  headstart search site-b.yaml --minutes 120 --at-once 8 --host https://kubeflow.example.com/pipeline \\\n"
        "    --profile infra/profiles/single-gpu.yaml --image registry.example.com/headstart@sha256:…",
        (
            *recipe(),
            option("--minutes", type=_minutes, metavar="M", help="the budget for everything before the final run, over "
                   "all sessions of the same search (default 30, or none with --trials)"),
            option("--trials", type=count, metavar="N", help="end after N trials"),
            option("--no-run", action="store_true", help="write the recipe of the best and do not run it, for example "
                   "to submit it to a cluster"),
            AMOUNT,
            JSON,
            WORKSPACE,
            group("on a cluster", "With --host or --profile each trial is a run of Kubeflow Pipelines, and so is the "
                  "final run.\nMLFLOW_TRACKING_URI names the server that the cluster's steps write to.",
                  *placement(default="the profile's"),
                  option("--at-once", type=count, metavar="N", help="at most N trials at a time (default: the "
                         f"profile's parallelism, else {_AT_ONCE})")),
            SERVER,
        ),
    ),
)  # fmt: skip
