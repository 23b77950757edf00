"""`headstart compare`: the leaderboard of an experiment."""

import argparse
import json
import os

from headstart.terminal import waiting
from headstart_pipelines.commands.arguments import JSON, WORKSPACE, Command, option
from headstart_pipelines.commands.tracking import connect, is_server, page_command, page_server

# MLflow's page for comparing runs becomes slow beyond that many.
_COMPARABLE = 100


def _compare(options: argparse.Namespace) -> None:
    with waiting(f"reading the record of {options.experiment}"):
        from headstart.tracking import mlflow_pages
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
    answer = display.verdict(found.sentence, found.facts) if found.sentence and not options.all else ""
    console.print(answer, highlight=False)
    if found.delivered and not options.all:
        display.show_facts(console, [("delivered", found.delivered)])
        console.print()
    run_ids = [entry.figures["run_id"] for entry in found.entries]
    pages = {}
    if not options.all:
        pages["charts"] = mlflow_pages.charts_page(found.experiment_id, found.entries[0].parent_id, found.metric)
    if len(run_ids) <= _COMPARABLE:
        pages["compare page"] = mlflow_pages.compare_page(found.experiment_id, run_ids)
    pages["all runs"] = mlflow_pages.runs_page(found.experiment_id)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if not is_server(uri):
        condition = f"While `{page_command(options.workspace)}` runs:"
        console.print(condition, markup=False, soft_wrap=True, highlight=False)
    display.show_facts(
        console, [(label, mlflow_pages.address(page_server(uri), page)) for label, page in pages.items()]
    )


COMMANDS = (
    Command(
        "compare",
        _compare,
        "show the leaderboard of an experiment",
        "headstart compare digits",
        (
            option("experiment", metavar="EXPERIMENT", help="a recipe's name"),
            option("--sort", metavar="KEY", help="sort by this column (default: the experiment's metric)"),
            option("--all", action="store_true", help="every pipeline run, not only the latest"),
            JSON,
            WORKSPACE,
        ),
    ),
)
