"""The commands that read the record and change whose turn it is."""

import argparse
import json
import os
import sys
from pathlib import Path

from headstart.errors import HeadstartError
from headstart.terminal import printable
from headstart_pipelines.commands.arguments import UI_PORT, Commands, as_json, folder, workspace
from headstart_pipelines.commands.tracking import connect, is_server, page_server

# MLflow's page for comparing runs becomes slow beyond that many.
_COMPARABLE = 100


def add(commands: Commands) -> None:
    """Adds them."""
    command = commands.add("compare", _compare, "show the leaderboard of an experiment", "headstart compare digits")
    command.add_argument("experiment", metavar="EXPERIMENT", help="a recipe's name")
    command.add_argument("--sort", metavar="KEY", help="sort by this column (default: the experiment's metric)")
    command.add_argument("--all", action="store_true", help="every pipeline run, not only the latest")
    as_json(command)
    workspace(command)

    command = commands.add("promote", _promote, "make a version the champion of its model, if every gate lets it",
                  'headstart promote digits-target --reason "beats the old one on site B"')  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a registered model's name")
    command.add_argument("--version", metavar="V", help="the version to promote (default: the challenger)")
    command.add_argument("--policy", type=Path, metavar="FILE",
                         help="the gates, a YAML file (default: better than the champion, no loss against scratch, no "
                         "class much worse, nothing leaked, lineage whole)")  # fmt: skip
    command.add_argument("--data", type=folder, metavar="DIR",
                         help="the packed data set to evaluate both on, where their stored predictions are about "
                         "different items and it is not where it was")  # fmt: skip
    command.add_argument("--reason", metavar="TEXT", help="why, for the record")
    command.add_argument("--force", action="store_true", help="promote also what a gate refuses; needs --reason")
    as_json(command)
    workspace(command)

    command = commands.add("rollback", _rollback, "make the champion before the present one champion again",
                  'headstart rollback digits-target --reason "misses the new scanner"')  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a registered model's name")
    command.add_argument("--reason", metavar="TEXT", help="why, for the record")
    command.add_argument("--force", action="store_true", help="go back also to what does not load; needs --reason")
    as_json(command)
    workspace(command)

    command = commands.add("history", _history, "show who made which version the champion, when and why, newest first",
                  "headstart history digits-target")  # fmt: skip
    command.add_argument("model", metavar="MODEL", help="a registered model's name")
    as_json(command)
    workspace(command)

    command = commands.add("lineage", _lineage, "show what a model came from and what came from it",
                  "headstart lineage digits-target/1\n"
                  "  headstart lineage torchvision://vgg16/IMAGENET1K_V1 --champions")  # fmt: skip
    command.add_argument("model", metavar="MODEL[/VERSION]", help="a registered model, its champion or latest version "
                         "unless one is given, or the address of a source outside of the registry")  # fmt: skip
    command.add_argument("--champions", action="store_true", help="list the champions that descend from it")
    form = command.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--mermaid", action="store_true", help="print a Mermaid flowchart")
    workspace(command)

    command = commands.add("ui", _ui, "open the MLflow page on the workspace's store", "headstart ui --port 5000")
    command.add_argument("--port", type=int, default=UI_PORT, help=f"the port on this machine (default {UI_PORT})")
    workspace(command)


def _compare(options: argparse.Namespace) -> None:
    from headstart.tracking import mlflow_pages as links
    from headstart.tracking.leaderboard import compare
    from headstart_pipelines import display

    found = compare(connect(options.workspace), options.experiment, sort=options.sort, every_run=options.all)
    if options.json:
        print(json.dumps(found.rows, indent=2))
        return
    console = display.console()
    console.print(
        display.leaderboard_table(
            found.rows,
            chosen=[entry.chosen for entry in found.entries],
            pipeline_runs=[entry.pipeline_run for entry in found.entries] if options.all else (),
        )
    )
    console.print(display.verdict(found.sentence) if found.sentence and not options.all else "", highlight=False)
    run_ids = [entry.figures["run_id"] for entry in found.entries]
    pages = {}
    if not options.all:
        pages["charts"] = links.charts_page(found.experiment_id, found.entries[0].parent_id, found.metric)
    if len(run_ids) <= _COMPARABLE:
        pages["compare page"] = links.compare_page(found.experiment_id, run_ids)
    pages["all runs"] = links.runs_page(found.experiment_id)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if not is_server(uri):
        console.print(
            f"While `headstart ui --workspace {options.workspace}` runs:", markup=False, soft_wrap=True, highlight=False
        )
    display.show_facts(console, [(label, links.address(page_server(uri), page)) for label, page in pages.items()])


def _promote(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from headstart.tracking.policy import Policy, load_policy
    from headstart.tracking.promotion import promote
    from headstart_pipelines import display

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
    model, change = outcome.model, outcome.change
    if options.json:
        record = {
            "model": model,
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
        print(json.dumps(record, indent=2))
    elif outcome.gates:
        display.console().print(display.gates_table(outcome.gates))
        print()
    if outcome.refusals and not change:
        closed = ", ".join(gate.name for gate in outcome.refusals)
        stays = f"version {outcome.champion} stays" if outcome.champion else "there is no"
        raise HeadstartError(
            f"{model} version {outcome.version} was not promoted and {stays} champion: {closed} refused it. Mend that, "
            "change the policy, or override it for the record with --force --reason TEXT."
        )
    if options.json:
        return
    if change is None:
        print(f"{model} version {outcome.version} is the champion already.")
    else:
        before = f"version {change.previous}" if change.previous else "no version"
        forced = ", forced" if change.forced else ""
        print(f"{model}: version {change.version} is the champion now{forced}; before, {before} was.")


def _rollback(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from headstart.tracking.promotion import rollback

    change = rollback(connect(options.workspace), options.model, reason=options.reason, force=options.force)
    if options.json:
        print(json.dumps({"model": options.model, **asdict(change)}, indent=2))
    else:
        before = f"version {change.previous}" if change.previous else "no version"
        forced = ", forced" if change.forced else ""
        print(f"{options.model}: version {change.version} is the champion again{forced}; before, {before} was.")


def _history(options: argparse.Namespace) -> None:
    from dataclasses import asdict

    from headstart.tracking.champion_history import read_history
    from headstart_pipelines import display

    history = read_history(connect(options.workspace), options.model)
    changes = [asdict(change) for change in reversed(history.changes)]
    nothing = f"{options.model} never had a champion; `headstart promote {options.model}` makes its challenger one."
    display.show_list(changes, display.history_table, nothing, as_json=options.json)


def _lineage(options: argparse.Namespace) -> None:
    from headstart.tracking.lineage import champions, lineage, mermaid
    from headstart_pipelines import display

    uri = (
        options.model if "://" in options.model or options.model.startswith("models:/") else f"models:/{options.model}"
    )
    client = connect(options.workspace)
    if options.champions:
        nothing = f"No champion descends from {options.model}."
        display.show_list(champions(client, uri), display.champions_table, nothing, as_json=options.json)
        return
    family = lineage(client, uri)
    if options.json:
        print(json.dumps(family, indent=2))
    elif options.mermaid:
        print(printable(mermaid(family), keep="\n"))
    else:
        display.console().print(display.lineage_tree(family))


def _ui(options: argparse.Namespace) -> None:
    from headstart.tracking import mlflow_pages as links
    from headstart_pipelines import display
    from headstart_pipelines.ui import serve

    client = connect(options.workspace)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    server = page_server(uri, options.port)

    def show() -> None:
        experiments = client.search_experiments(order_by=["last_update_time DESC"], max_results=10)
        pages = [(each.name, links.runs_page(each.experiment_id)) for each in experiments if each.name != "Default"]
        pages.append(("registered models", links.models_page()))
        display.show_facts(display.console(), [(label, links.address(server, page)) for label, page in pages])
        sys.stdout.flush()

    if is_server(uri):
        show()
        return
    print("starting the MLflow page …", flush=True)
    serve(uri, options.port, options.workspace / "logs" / "ui.log", show)
