"""The commands for runs, on this machine or a cluster: `headstart runs`, `logs`, `retry` and `terminate`."""

import argparse
import json
import os

from headstart.errors import InputError
from headstart.terminal import printable, waiting
from headstart.workspace import find_workspace
from headstart_pipelines.commands.arguments import JSON, LOCAL, RUN, Command, count, option
from headstart_pipelines.commands.server import SERVER, connected

_LISTED = 20


def _is_local(options: argparse.Namespace) -> bool:
    """Whether runs of this machine are meant: a workspace is named, or there is one and no cluster is."""
    if options.workspace is not None:
        return True
    if options.host or os.environ.get("HEADSTART_KFP_HOST"):
        return False
    return (find_workspace() / "logs").is_dir()


def _local_runs(options: argparse.Namespace) -> None:
    if options.wait:
        raise InputError("--wait follows a run on a cluster; name one with --host, or remove it.")
    workspace = options.workspace or find_workspace()
    with waiting(f"reading the record in {workspace}"):
        from headstart.tracking.store import connect_to
        from headstart_pipelines import display, local_runs

        client = connect_to(workspace)
    if options.run:
        found = local_runs.read_run(client, workspace, options.run)
        if options.json:
            print(json.dumps(found, indent=2))
            return
        display.console().print(local_runs.steps_table(found))
        display.show_facts(display.console(), [(key, found[key]) for key in ("log", "report") if found[key]])
        return
    rows = local_runs.list_runs(client, experiment=options.experiment, limit=options.limit)
    nothing = f"There are no runs in {workspace} yet; `headstart run RECIPE` starts one."
    display.show_list(rows, local_runs.runs_table, nothing, as_json=options.json)


def _runs(options: argparse.Namespace) -> None:
    if _is_local(options):
        _local_runs(options)
    else:
        _cluster_runs(options)


def _cluster_runs(options: argparse.Namespace) -> None:
    from headstart_pipelines import display
    from headstart_pipelines.cluster import clock, view
    from headstart_pipelines.cluster.follow import watch_run, with_progress
    from headstart_pipelines.cluster.run_state import read_run_state
    from headstart_pipelines.cluster.runs import align, find_run, list_runs

    if options.wait and not options.run:
        raise InputError("Which run is to be followed? Give its name or id: headstart runs RUN --wait.")
    server = connected(options)
    if not options.run:
        rows = list_runs(server, experiment=options.experiment, limit=options.limit)
        nothing = f"There are no runs on {server.host} yet; `headstart submit RECIPE` starts one."
        display.show_list(rows, view.runs_table, nothing, as_json=options.json)
        return
    found = find_run(server, options.run)
    if options.wait:
        watch_run(server, found.run_id, found.display_name)
        return
    run_state = with_progress(server, read_run_state(server, found))
    now = clock.now()
    if options.json:
        print(json.dumps(view.as_dict(run_state, server.page(found.run_id), now), indent=2))
        return
    display.console().print(view.steps_table(run_state, now))
    display.show_facts(display.console(), [("KFP page", server.page(found.run_id))])
    align(run_state.run, run_state.word)


def _logs(options: argparse.Namespace) -> None:
    if not _is_local(options):
        _cluster_logs(options)
        return
    from headstart_pipelines import local_runs

    if options.step or options.follow:
        raise InputError("STEP and --follow are for runs on a cluster; name one with --host, or remove them.")
    with local_runs.log_of(options.workspace or find_workspace(), options.run).open(encoding="utf-8") as file:
        for line in file:
            print(printable(line.rstrip("\n"), keep="\t"))


def _cluster_logs(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.logs import log_parts
    from headstart_pipelines.cluster.runs import find_run

    server = connected(options)
    found = find_run(server, options.run)
    shown = None
    for heading, lines in log_parts(server, found, options.step, follow=options.follow, own=not options.all):
        if heading and heading != shown:
            print(f"==> {heading} <==")
        shown = heading
        for line in lines:
            print(line, flush=options.follow)


def _retry(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.follow import watch_run
    from headstart_pipelines.cluster.runs import align, retry

    server = connected(options)
    found = retry(server, options.run)
    align(found, "retried")
    print(f"{printable(found.display_name)}: what failed is started again; what was done stays done.")
    print(f"KFP page     {server.page(found.run_id)}")
    if options.wait:
        watch_run(server, found.run_id, found.display_name)


def _terminate(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.runs import stop, to_terminate, word_of

    server = connected(options)
    found = to_terminate(server, options.run)
    name = printable(found.display_name)
    print(f"{name} is being terminated; its steps have 30 seconds to write their checkpoints.", flush=True)
    ended = stop(server, found)
    if (word := word_of(ended)) == "succeeded":
        print(f"{name} succeeded before that.")
    else:
        print(f"{name} is {word}. `headstart retry {found.run_id}` goes on with it.")


COMMANDS = (
    Command(
        "runs",
        _runs,
        "list the runs of this machine or a cluster, or show one",
        "headstart runs --experiment digits",
        (
            option("run", nargs="?", metavar="RUN", help="a run's name or id: show its steps"),
            option("--experiment", metavar="NAME", help="only those of this recipe"),
            option(
                "--limit", type=count, default=_LISTED, metavar="N", help=f"how many, latest first (default {_LISTED})"
            ),
            option("--wait", action="store_true", help="follow RUN, on a cluster, to its end"),
            JSON,
            LOCAL,
            SERVER,
        ),
    ),
    Command(
        "logs",
        _logs,
        "print what the steps of a run wrote",
        'headstart logs RUN "finetune full"',
        (
            RUN,
            option("step", nargs="?", metavar="STEP", help="the step (default: those that failed, else all)"),
            option("--follow", action="store_true", help="print what comes until STEP, or the run, ends"),
            option("--all", action="store_true", help="with the lines of Kubeflow Pipelines itself"),
            LOCAL,
            SERVER,
        ),
    ),
    Command(
        "retry",
        _retry,
        "start what failed in a run on a cluster again",
        "headstart retry RUN --wait",
        (
            RUN,
            option("--wait", action="store_true", help="follow the run to its end; Ctrl-C leaves it going"),
            SERVER,
        ),
    ),
    Command("terminate", _terminate, "stop a run on a cluster", "headstart terminate RUN", (RUN, SERVER)),
)
