"""`headstart submit`: a recipe as a run on Kubeflow Pipelines."""

import argparse

from headstart.errors import InputError
from headstart_pipelines.commands.arguments import JSON, Command, count, option, placement, recipe
from headstart_pipelines.commands.server import SERVER, built, connected, started


def _submit(options: argparse.Namespace) -> None:
    from headstart_pipelines import display
    from headstart_pipelines.catalog import Job
    from headstart_pipelines.cluster.follow import watch_run

    if options.retries and not options.wait:
        raise InputError("--retries starts again what failed while the run is followed; add --wait.")
    resolved, package, profile = built(options)
    server = connected(options)
    submission = started(server, Job.of(resolved), package, profile, options)
    if options.wait:
        watch_run(server, submission.run_id, submission.run, retries=options.retries, stderr=options.json)
        if resolved.target:
            console = display.console(stderr=options.json)
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
