"""`headstart monitor --retrain`: the recipe of a version that is no longer as before is run again."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError, InputError
from headstart.models.reference import REGISTRY
from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import option
from headstart_pipelines.commands.promotion import as_dict as promotion_as_dict
from headstart_pipelines.commands.promotion import tell
from headstart_pipelines.commands.run import as_dict, carry_out, show
from headstart_pipelines.commands.server import started
from headstart_pipelines.commands.tracking import connect

if TYPE_CHECKING:
    from rich.console import Console

    from headstart.recipe.recipe import Recipe
    from headstart.tracking.promotion import Promotion
    from headstart_pipelines.cluster.connection import Server
    from headstart_pipelines.cluster.submission import Package
    from headstart_pipelines.local import Outcome
    from headstart_pipelines.profile import Profile

RETRAINING = (
    option("--retrain", action="store_true", help="unless it is as before, run the recipe of the version again, on "
           "what is now where its data were"),
    option("--promote", action="store_true", help="with --retrain: make what comes of it the champion if every gate "
           "lets it"),
)  # fmt: skip


@dataclass(frozen=True)
class Repeated:
    """What came of the recipe, None where its data are as they were; and what the gates said of it, None where they
    were not asked."""

    outcome: "Outcome | None"
    promotion: "Promotion | None"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        promotion = promotion_as_dict(self.promotion) if self.promotion else None
        return {"retrained": as_dict(self.outcome) if self.outcome else None, "promotion": promotion}


def recipe_to_repeat(options: argparse.Namespace) -> "tuple[str, Recipe] | None":
    """The version and its recipe, before anything is compared; None where --retrain is not given.

    Raises:
        InputError: the version keeps none, or the options do not fit together.
    """
    if not options.retrain:
        if options.promote:
            raise InputError("--promote asks the gates about what --retrain delivers; add that.")
        return None
    with waiting(f"reading the recipe of {options.model}"):
        from headstart.recipe.registered import recipe_of

        return recipe_of(connect(options.workspace), _uri(options))


def repeat_here(version: str, recipe: "Recipe", options: argparse.Namespace, look: str | None) -> Repeated:
    """Run the recipe of the version on this machine unless its data are as they were, show its result, and with
    --promote ask the gates. What comes of it is noted at the run `look`.

    Raises:
        InputError: its data or its source are not where they were.
        HeadstartError: a step failed, or nothing was registered.
        Interrupted: Ctrl-C stopped it.
    """
    from headstart_pipelines import display

    console = display.console(stderr=options.json)
    with _noted(version, look, options) as noted:
        if _is_pointless(version, recipe, console):
            noted.append(f"{version} is not trained again, as its data are what they were.")
            return Repeated(None, None)
        outcome, page = carry_out(recipe, options, console, image=None)
        if not options.json:
            show(console, outcome, page)
        if not outcome.registered:
            raise HeadstartError(f"The run {outcome.log.stem} registered no model, so there is nothing to promote.")
        if not options.promote:
            noted.append(f"{version} was trained again: {outcome.registered[-1]}.")
            return Repeated(outcome, None)
        model, _, number = outcome.registered[-1].removeprefix(REGISTRY).rpartition("/")
        promotion = _promoted(model, number, options)
        noted.append(_told(version, promotion))
        return Repeated(outcome, promotion)


def repeat_on_cluster(
    version: str,
    recipe: "Recipe",
    work: "tuple[Recipe, Package, Profile]",
    server: "Server",
    compared: str,
    options: argparse.Namespace,
) -> None:
    """Submit the recipe of the version, compiled as `work`, unless the run `compared` found it as before or its data
    are as they were; follow it, and with --promote ask the gates about the challenger.

    Raises:
        HeadstartError: the record does not say what was found, the run did not succeed, or a gate refused.
    """
    from headstart.tracking.monitoring import look_found
    from headstart_pipelines import display
    from headstart_pipelines.catalog import Job
    from headstart_pipelines.cluster.follow import watch_run

    look = look_found(connect(options.workspace), compared)
    if look is None:
        raise HeadstartError(
            f"The record that is read here has no comparison of the run {compared}, so {version} is not trained again; "
            "set MLFLOW_TRACKING_URI to the server that the cluster's steps write to."
        )
    resolved, package, profile = work
    if look[1] == "as before":
        return
    with _noted(version, look[0], options) as noted:
        if _is_pointless(version, recipe, display.console()):
            noted.append(f"{version} is not trained again, as its data are what they were.")
            return
        submission = started(server, Job.of(resolved), package, profile, options)
        watch_run(server, submission.run_id, submission.run)
        noted.append(f"{version} was trained again by the run {submission.run}.")
        if options.promote:
            promotion = _promoted(version.removeprefix(REGISTRY).rpartition("/")[0], None, options)
            noted[:] = [_told(version, promotion)]
            tell(promotion, quiet=False)


@contextmanager
def _noted(version: str, look: str | None, options: argparse.Namespace) -> Iterator[list[str]]:
    """Write what came of a look, which the block appends, or that the block failed, to the page of the look's run."""
    from headstart.tracking.monitoring import note_consequence

    noted: list[str] = []
    try:
        yield noted
    except HeadstartError as error:
        noted = noted or [f"{version} could not be trained again: {error}"]
        raise
    finally:
        if look and noted:
            note_consequence(connect(options.workspace), look, " ".join(noted))


def _told(version: str, promotion: "Promotion") -> str:
    """What the gates said of what came of a version's recipe."""
    new = f"{version} was trained again: {REGISTRY}{promotion.model}/{promotion.version}"
    if promotion.promoted:
        return f"{new} is the champion now."
    closed = ", ".join(gate.name for gate in promotion.refusals)
    return f"{new} did not become the champion: {f'refused by {closed}' if closed else 'nothing waits to become it'}."


def _is_pointless(version: str, recipe: "Recipe", console: "Console") -> bool:
    """Whether the recipe would give the same model again, which is then said."""
    from headstart.recipe.registered import has_same_data

    data = recipe.target.data if recipe.target else recipe.source.data
    if not has_same_data(recipe) or data is None:
        return False
    console.print(
        f"{version} is not trained again, as its data are what they were: put new labelled samples beside those at "
        f"{data.uri}.", markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
    return True


def _promoted(model: str, version: str | None, options: argparse.Namespace) -> "Promotion":
    from headstart.tracking.promotion import promote

    reason = f"{options.data} was not as before"
    return promote(connect(options.workspace), model, version=version, reason=reason)


def _uri(options: argparse.Namespace) -> str:
    return str(options.model if options.model.startswith(REGISTRY) else f"{REGISTRY}{options.model}")
