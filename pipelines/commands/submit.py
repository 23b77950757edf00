"""`headstart submit`: a recipe as a run on Kubeflow Pipelines."""

import argparse
import json
from dataclasses import asdict

from headstart.errors import InputError
from headstart.terminal import printable
from headstart_pipelines.commands.arguments import JSON, Command, count, option, placement, recipe
from headstart_pipelines.commands.server import SERVER, built, connected


def _submit(options: argparse.Namespace) -> None:
    from headstart_pipelines import display
    from headstart_pipelines.catalog import parameters
    from headstart_pipelines.cluster.follow import watch_run
    from headstart_pipelines.cluster.releases import difference
    from headstart_pipelines.cluster.size import warning
    from headstart_pipelines.cluster.submission import submit

    if options.retries and not options.wait:
        raise InputError("--retries starts again what failed while the run is followed; add --wait.")
    resolved, package, profile = built(options)
    server = connected(options)
    console = display.console(stderr=options.json)
    if other := difference(server.release):
        console.print(printable(other), markup=False, highlight=False, soft_wrap=True)
    console.print(f"[bold]{resolved.name}[/]  pipeline {resolved.pipeline}", highlight=False)
    if said := warning(package.text, parameters(resolved)):
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    submission = submit(server, resolved, package, profile)
    facts = [
        ("pipeline", f"{submission.version} ({'uploaded' if submission.uploaded else 'there already'})"),
        ("run", f"{submission.run}  {submission.run_id}"),
        ("KFP page", submission.page),
    ]
    if submission.mlflow_page:
        facts.append(("MLflow page", submission.mlflow_page))
    display.show_facts(console, facts)
    if submission.mlflow_problem:
        console.print(f"MLflow's plugin: {submission.mlflow_problem}", markup=False, highlight=False, soft_wrap=True)
    if options.json:
        print(json.dumps(asdict(submission), indent=2), flush=True)
    if options.wait:
        watch_run(server, submission.run_id, submission.run, retries=options.retries, stderr=options.json)
        if resolved.target:
            console.print(f"`headstart compare {resolved.name}` shows whether it helped.", highlight=False)


COMMANDS = (
    Command(
        "submit",
        _submit,
        "run a recipe on Kubeflow Pipelines",
        "headstart submit digits.yaml --host https://kubeflow.example.com/pipeline --namespace vision \\\n"
        "    --profile infra/profiles/single-gpu.yaml --image registry.example.com/headstart@sha256:… --wait",
        (
            *recipe(),
            *placement(default="the profile's"),
            option("--wait", action="store_true", help="follow the run to its end; Ctrl-C leaves it going"),
            option("--retries", type=count, default=0, metavar="N", help="with --wait: start what failed again, from "
                   "its checkpoint, at most N times"),
            JSON,
            SERVER,
        ),
    ),
)  # fmt: skip
