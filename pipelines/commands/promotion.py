"""The commands for a model's champion: `headstart promote`, `rollback` and `history`."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError
from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import JSON, MODEL, REASON, WORKSPACE, Command, folder, option
from headstart_pipelines.commands.tracking import connect

if TYPE_CHECKING:
    from headstart.tracking.promotion import Promotion


def _promote(options: argparse.Namespace) -> None:
    with waiting(f"asking the gates of {options.model}"):
        from headstart.tracking.policy import Policy, load_policy
        from headstart.tracking.promotion import promote

        policy = load_policy(options.policy) if options.policy else Policy()
        outcome = promote(
            connect(options.workspace),
            options.model,
            version=options.version,
            policy=policy,
            data=options.data,
            reason=options.reason,
            force=options.force,
        )
    if options.json:
        print(json.dumps(as_dict(outcome), indent=2))
    tell(outcome, quiet=options.json)


def as_dict(outcome: "Promotion") -> dict[str, Any]:
    """A promotion, or what refused it, as JSON values."""
    change = outcome.change
    return {
        "model": outcome.model,
        "version": outcome.version,
        "previous": outcome.champion,
        "promoted": change is not None,
        "at": change.at if change else None,
        "by": change.by if change else None,
        "reason": change.reason if change else None,
        "forced": change.forced if change else False,
        "gates": [asdict(gate) for gate in outcome.gates],
        "run_id": change.run_id if change else None,
    }


def tell(outcome: "Promotion", *, quiet: bool) -> None:
    """Print what the gates said and what came of it; nothing if `quiet`.

    Raises:
        HeadstartError: a gate refused.
    """
    model, change = outcome.model, outcome.change
    if outcome.gates and not quiet:
        from headstart_pipelines import display

        display.console().print(display.gates_table(outcome.gates))
        print()
    if outcome.refusals and not change:
        closed = ", ".join(gate.name for gate in outcome.refusals)
        stays = f"version {outcome.champion} stays" if outcome.champion else "there is no"
        raise HeadstartError(
            f"{model} version {outcome.version} was not promoted and {stays} champion: {closed} refused it. Mend that, "
            "change the policy, or override it for the record with --force --reason TEXT."
        )
    if quiet:
        return
    if change is None:
        print(f"{model} version {outcome.version} is the champion already.")
    else:
        before = f"version {change.previous}" if change.previous else "no version"
        forced = ", forced" if change.forced else ""
        print(f"{model}: version {change.version} is the champion now{forced}; before, {before} was.")


def _rollback(options: argparse.Namespace) -> None:
    with waiting(f"going back to the earlier champion of {options.model}"):
        from headstart.tracking.promotion import rollback

        change = rollback(connect(options.workspace), options.model, reason=options.reason, force=options.force)
    if options.json:
        print(json.dumps({"model": options.model, **asdict(change)}, indent=2))
    else:
        before = f"version {change.previous}" if change.previous else "no version"
        forced = ", forced" if change.forced else ""
        print(f"{options.model}: version {change.version} is the champion again{forced}; before, {before} was.")


def _history(options: argparse.Namespace) -> None:
    with waiting(f"reading the history of {options.model}"):
        from headstart.tracking.champion_history import read_history
        from headstart_pipelines import display

        history = read_history(connect(options.workspace), options.model)
    changes = [asdict(change) for change in reversed(history.changes)]
    nothing = f"{options.model} never had a champion; `headstart promote {options.model}` makes its challenger one."
    display.show_list(changes, display.history_table, nothing, as_json=options.json)


COMMANDS = (
    Command(
        "promote",
        _promote,
        "make a version the champion of its model, if every gate lets it",
        'headstart promote digits-target --reason "beats the old one on site B"',
        (
            MODEL,
            option("--version", metavar="V", help="the version to promote (default: the challenger)"),
            option("--policy", type=Path, metavar="FILE", help="the gates, a YAML file (default: better than the "
                   "champion, no loss against scratch, no class much worse, nothing leaked, lineage whole)"),
            option("--data", type=folder, metavar="DIR", help="the packed data set to evaluate both on, where their "
                   "stored predictions are about different items and it is not where it was"),
            REASON,
            option("--force", action="store_true", help="promote also what a gate refuses; needs --reason"),
            JSON,
            WORKSPACE,
        ),
    ),
    Command(
        "rollback",
        _rollback,
        "make the champion before the present one champion again",
        'headstart rollback digits-target --reason "misses the new scanner"',
        (
            MODEL,
            REASON,
            option("--force", action="store_true", help="go back also to what does not load; needs --reason"),
            JSON,
            WORKSPACE,
        ),
    ),
    Command(
        "history",
        _history,
        "show who made which version the champion, when and why, newest first",
        "headstart history digits-target",
        (MODEL, JSON, WORKSPACE),
    ),
)  # fmt: skip
