"""The commands for Kubeflow Pipelines on a cluster."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from headstart.errors import HeadstartError, InputError
from headstart.terminal import printable
from headstart_pipelines.commands.arguments import Commands, as_json, count, placement, recipe

if TYPE_CHECKING:
    from headstart.recipe.recipe import Recipe
    from headstart_pipelines.cluster.connection import Server
    from headstart_pipelines.cluster.course import Course
    from headstart_pipelines.cluster.submission import Package
    from headstart_pipelines.profile import Profile

_LISTED = 20


def add(commands: Commands) -> None:
    """Adds them."""
    command = commands.add(
        "submit",
        _submit,
        "run a recipe on Kubeflow Pipelines",
        "headstart submit digits.yaml --host https://kubeflow.example.com/pipeline --namespace vision \\\n"
        "    --profile infra/profiles/single-gpu.yaml --image registry.example.com/headstart@sha256:… --wait",
    )
    recipe(command)
    placement(command, default="the profile's")
    command.add_argument("--wait", action="store_true", help="follow the run to its end; Ctrl-C leaves it going")
    command.add_argument("--retries", type=count, default=0, metavar="N",
                         help="with --wait: start what failed again, from its checkpoint, at most N times")  # fmt: skip
    as_json(command)
    server(command)

    command = commands.add(
        "runs", _runs, "list the runs on a cluster, or show one", "headstart runs --experiment digits"
    )
    command.add_argument("run", nargs="?", metavar="RUN", help="a run's name or id: show its steps")
    command.add_argument("--experiment", metavar="NAME", help="only those of this recipe")
    command.add_argument("--limit", type=count, default=_LISTED, metavar="N",
                         help=f"how many, latest first (default {_LISTED})")  # fmt: skip
    command.add_argument("--wait", action="store_true", help="follow RUN to its end")
    as_json(command)
    server(command)

    command = commands.add(
        "logs", _logs, "print what the steps of a run on a cluster wrote", 'headstart logs RUN "finetune full"'
    )
    run(command)
    command.add_argument("step", nargs="?", metavar="STEP", help="the step (default: those that failed, else all)")
    command.add_argument("--follow", action="store_true", help="print what comes until STEP, or the run, ends")
    command.add_argument("--all", action="store_true", help="with the lines of Kubeflow Pipelines itself")
    server(command)

    command = commands.add(
        "retry", _retry, "start what failed in a run on a cluster again", "headstart retry RUN --wait"
    )
    run(command)
    command.add_argument("--wait", action="store_true", help="follow the run to its end; Ctrl-C leaves it going")
    server(command)

    command = commands.add("terminate", _terminate, "stop a run on a cluster", "headstart terminate RUN")
    run(command)
    server(command)

    command = commands.add(
        "schedule",
        _schedule,
        "run a recipe on a cluster by the clock, or look after what does",
        'headstart schedule digits.yaml --cron "0 3 * * 1" --profile infra/profiles/cpu.yaml --image NAME@sha256:…\n'
        '  headstart schedule digits.yaml --cron "30 9 * * MON-FRI" --timezone Asia/Tokyo --profile … --image …\n'
        "  headstart schedule --list\n"
        "  headstart schedule --delete digits",
    )
    recipe(command, nargs="?")
    command.add_argument("--cron", metavar="WHEN", help="minute, hour, day, month and weekday, in UTC unless the "
                         "server's administrator chose another time zone")  # fmt: skip
    command.add_argument("--timezone", metavar="ZONE",
                         help="the zone of --cron, whose clocks must not change, such as Asia/Tokyo")  # fmt: skip
    command.add_argument("--overlap", choices=("forbid", "allow"), default="forbid",
                         help="at a tick while a run goes: start the next when it has ended (forbid, the default), or "
                         "at once")  # fmt: skip
    command.add_argument("--catch-up", action="store_true",
                         help="one run for each tick that was left out, instead of one for all of them")  # fmt: skip
    command.add_argument("--name", metavar="NAME", help="the schedule's name (default: the recipe's)")
    placement(command, default="the profile's")
    care = command.add_mutually_exclusive_group()
    care.add_argument("--list", action="store_true", help="list the schedules and their last runs")
    for action in ("disable", "enable", "delete"):
        care.add_argument(f"--{action}", metavar="NAME", help=f"{action} a schedule")
    going = command.add_mutually_exclusive_group()
    going.add_argument("--terminate", action="store_true", help="with --delete: end the schedule's run that goes")
    going.add_argument("--force", action="store_true", help="with --delete: lose the schedule's run that goes")
    as_json(command)
    server(command)


def run(command: argparse.ArgumentParser) -> None:
    """RUN."""
    command.add_argument("run", metavar="RUN", help="a run's name or id")


def server(command: argparse.ArgumentParser) -> None:
    """Where Kubeflow Pipelines is, and who asks."""
    group = command.add_argument_group(
        "server", "A token comes from a file or from HEADSTART_KFP_TOKEN, a session's cookie from HEADSTART_KFP_COOKIE."
    )
    group.add_argument("--host", metavar="URL", help="Kubeflow Pipelines' address (default: HEADSTART_KFP_HOST)")
    group.add_argument(
        "--namespace",
        metavar="NAME",
        help="the namespace of a server with several users (default: HEADSTART_KFP_NAMESPACE, or kfp's context)",
    )
    group.add_argument(
        "--token-file", type=Path, metavar="FILE", help="a token, read anew for each request (default: a pod's own)"
    )
    group.add_argument(
        "--ca", type=Path, metavar="FILE", help="the authority of the server's certificate (default: HEADSTART_KFP_CA)"
    )
    group.add_argument("--timeout", type=float, default=30.0, metavar="S",
                       help="how long an answer may take, in seconds (default 30; to start a run, 150)")  # fmt: skip


def _connected(options: argparse.Namespace) -> "Server":
    from headstart_pipelines.cluster.connection import Access, connect

    return connect(
        Access(
            host=options.host,
            namespace=options.namespace,
            token_file=options.token_file,
            ca=options.ca,
            timeout=options.timeout,
        )
    )


def _built(options: argparse.Namespace, *, live: bool = False) -> "tuple[Recipe, Package, Profile]":
    """The recipe, resolved and compiled for the cluster; all of it before anything is sent."""
    from headstart.recipe.recipe import load_recipe
    from headstart_pipelines.cluster.submission import build_package
    from headstart_pipelines.profile import load_profile
    from headstart_pipelines.resolve import resolve_for_cluster

    loaded = load_recipe(options.recipe, options.set)
    if options.profile is None:
        raise InputError(
            "Which profile? Name with --profile the file that says what the cluster gives each step; "
            "infra/profiles/cpu.yaml is one to start from."
        )
    profile = load_profile(options.profile)
    resolved = resolve_for_cluster(
        loaded,
        {volume.path for volume in profile.light.volumes},
        model_mounts={volume.path for volume in (profile.selection or profile.training).volumes},
        live=live,
    )
    package = build_package(
        resolved.recipe,
        image=options.image,
        profile=profile,
        unfingerprinted=resolved.unknown,
        allow_tag=options.allow_tag,
    )
    return resolved.recipe, package, profile


def _submit(options: argparse.Namespace) -> None:
    from headstart_pipelines import display
    from headstart_pipelines.catalog import parameters
    from headstart_pipelines.cluster.releases import difference
    from headstart_pipelines.cluster.size import warning
    from headstart_pipelines.cluster.submission import submit

    if options.retries and not options.wait:
        raise InputError("--retries starts again what failed while the run is followed; add --wait.")
    resolved, package, profile = _built(options)
    connected = _connected(options)
    console = display.console(stderr=options.json)
    if other := difference(connected.release):
        console.print(printable(other), markup=False, highlight=False, soft_wrap=True)
    console.print(f"[bold]{resolved.name}[/]  pipeline {resolved.pipeline}", highlight=False)
    if said := warning(package.text, parameters(resolved)):
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    submission = submit(connected, resolved, package, profile)
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
        print(json.dumps(submission.to_dict(), indent=2), flush=True)
    if options.wait:
        _conclude(connected, _followed_with_retries(connected, submission.run_id, submission.run, options))
        if resolved.target:
            console.print(f"`headstart compare {resolved.name}` shows whether it helped.", highlight=False)


def _runs(options: argparse.Namespace) -> None:
    from headstart_pipelines import display
    from headstart_pipelines.cluster import view
    from headstart_pipelines.cluster.course import read_course
    from headstart_pipelines.cluster.follow import Clock, with_progress
    from headstart_pipelines.cluster.record import align
    from headstart_pipelines.cluster.runs import find_run, list_runs

    if options.wait and not options.run:
        raise InputError("Which run is to be followed? Give its name or id: headstart runs RUN --wait.")
    connected = _connected(options)
    if not options.run:
        rows = list_runs(connected, experiment=options.experiment, limit=options.limit)
        nothing = f"There are no runs on {connected.host} yet; `headstart submit RECIPE` starts one."
        display.show_list(rows, view.runs_table, nothing, as_json=options.json)
        return
    found = find_run(connected, options.run)
    if options.wait:
        _conclude(connected, _followed(connected, found.run_id, found.display_name))
        return
    course = with_progress(connected, read_course(connected, found))
    now = Clock().now()
    if options.json:
        print(json.dumps(view.as_dict(course, connected.page(found.run_id), now), indent=2))
        return
    display.console().print(view.steps_table(course, now))
    display.show_facts(display.console(), [("KFP page", connected.page(found.run_id))])
    align(course.run, course.word)


def _logs(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.follow import Clock
    from headstart_pipelines.cluster.reading import pieces
    from headstart_pipelines.cluster.runs import find_run

    connected = _connected(options)
    found = find_run(connected, options.run)
    heading = None
    for piece in pieces(connected, found, options.step, clock=Clock() if options.follow else None, own=not options.all):
        if piece.heading and piece.heading != heading:
            print(f"==> {piece.heading} <==")
        heading = piece.heading
        for line in piece.lines:
            print(line, flush=options.follow)


def _retry(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.record import align
    from headstart_pipelines.cluster.runs import retry

    connected = _connected(options)
    found = retry(connected, options.run)
    align(found, "retried")
    print(f"{printable(found.display_name)}: what failed is started again; what was done stays done.")
    print(f"KFP page     {connected.page(found.run_id)}")
    if options.wait:
        _conclude(connected, _followed(connected, found.run_id, found.display_name))


def _terminate(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.follow import Clock
    from headstart_pipelines.cluster.runs import to_terminate, word_of
    from headstart_pipelines.cluster.termination import stop

    connected = _connected(options)
    found = to_terminate(connected, options.run)
    name = printable(found.display_name)
    print(f"{name} is being terminated; its steps have 30 seconds to write their checkpoints.", flush=True)
    ended = stop(connected, found, Clock())
    if (word := word_of(ended)) == "succeeded":
        print(f"{name} succeeded before that.")
    else:
        print(f"{name} is {word}. `headstart retry {found.run_id}` goes on with it.")


def _schedule(options: argparse.Namespace) -> None:
    if (options.terminate or options.force) and not options.delete:
        raise InputError("--terminate and --force say what becomes of a run that goes; they belong to --delete NAME.")
    if options.list:
        _list_schedules(options)
    elif options.disable or options.enable or options.delete:
        _change_schedule(options)
    else:
        _make_schedule(options)


def _list_schedules(options: argparse.Namespace) -> None:
    from headstart_pipelines import display
    from headstart_pipelines.cluster import view
    from headstart_pipelines.cluster.follow import Clock
    from headstart_pipelines.cluster.schedule import list_schedules

    connected = _connected(options)
    rows = list_schedules(connected, Clock().now())
    display.show_list(rows, view.schedules_table, f"There are no schedules on {connected.host}.", as_json=options.json)
    for row in rows if not options.json else ():
        if row["missed"]:
            print(
                f"{printable(row['schedule'])}: nothing was started at {row['missed'][:16].replace('T', ' ')} "
                f"UTC. The server does not say why; the events of its object do:\n  {row['look']}"
            )


def _change_schedule(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.follow import Clock
    from headstart_pipelines.cluster.schedule import delete, switch

    connected = _connected(options)
    if name := options.delete:
        lost = delete(connected, name, Clock(), terminate=options.terminate, force=options.force)
        print(f"{name} is deleted.")
        for run in lost:
            print(f"Its run {printable(run.display_name)} is lost; Kubeflow Pipelines shows it as running for ever.")
    elif name := options.enable:
        switch(connected, name, on=True)
        print(f"{name} is enabled.")
    else:
        switch(connected, options.disable, on=False)
        print(f"{options.disable} is disabled.")


def _make_schedule(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.cron import Cron
    from headstart_pipelines.cluster.follow import Clock
    from headstart_pipelines.cluster.schedule import Plan, schedule

    if not options.recipe or not options.cron:
        raise InputError(
            'Give a recipe and when it is to run, for example digits.yaml --cron "0 3 * * 1"; or --list, --disable, '
            "--enable or --delete."
        )
    cron = Cron.of(options.cron)
    if options.timezone:
        cron = cron.from_zone(options.timezone, Clock().now())
    plan = Plan(cron, options.overlap, options.catch_up)
    resolved, package, _ = _built(options, live=True)
    made = schedule(_connected(options), resolved, package, plan, name=options.name or resolved.name)
    if options.json:
        print(
            json.dumps(
                {"schedule": made.display_name, "cron": cron.text, "schedule_id": made.recurring_run_id}, indent=2
            )
        )
    else:
        print(f"{made.display_name} runs at {cron.text!r} (seconds first, in UTC).")
        print(f"`headstart schedule --disable {made.display_name}` stops it, --delete forgets it.")


def _followed_with_retries(connected: "Server", run_id: str, name: str, options: argparse.Namespace) -> "Course":
    """Follows a run to its end, and starts what failed in it again as often as the options say."""
    from headstart_pipelines import display
    from headstart_pipelines.cluster.record import align
    from headstart_pipelines.cluster.runs import retry

    console = display.console(stderr=options.json)
    ended = _followed(connected, run_id, name, stderr=options.json)
    for number in range(1, options.retries + 1):
        if ended.word != "failed":
            break
        console.print(
            f"  What failed is started again, from its checkpoint if it has one: retry {number} of {options.retries}.",
            style="yellow", markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip
        align(retry(connected, run_id), "retried")
        ended = _followed(connected, run_id, name, stderr=options.json)
    return ended


def _followed(connected: "Server", run_id: str, name: str, *, stderr: bool = False) -> "Course":
    """Follows a run to its end on standard output, or on standard error where that is for JSON alone."""
    from headstart_pipelines import display
    from headstart_pipelines.cluster import view
    from headstart_pipelines.cluster.follow import Clock, follow

    with view.RunWatch(display.console(stderr=stderr)) as watch:
        return follow(connected, run_id, name, watch, Clock())


def _conclude(connected: "Server", ended: "Course") -> None:
    """Shows what a run that did not succeed failed of, and ends with an error then."""
    from headstart_pipelines import display
    from headstart_pipelines.cluster import view
    from headstart_pipelines.cluster.follow import failure
    from headstart_pipelines.cluster.record import align

    run = ended.run
    align(run, ended.word)
    if ended.word == "succeeded":
        return
    if ended.word == "terminated":
        raise HeadstartError(
            f"The run {run.display_name} was terminated; `headstart retry {run.run_id}` goes on with it."
        )
    if ended.word == "lost":
        raise HeadstartError(f"The run {run.display_name} is lost: {ended.reason}. Submit its recipe again.")
    found = failure(connected, ended)
    if found is None:
        said = (run.error.message if run.error else None) or (ended.workflow.message if ended.workflow else None)
        because = f": {said}" if said else ""
        raise HeadstartError(f"The run {run.display_name} failed{because}. Its page is {connected.page(run.run_id)}.")
    if found.tail:
        view.show_tail(display.console(stderr=True), found.step, found.tail)
    log = found.missing or f"`headstart logs {run.run_id} '{found.step}'` shows all of its log."
    raise HeadstartError(
        f"The run {run.display_name} failed in {found.step!r}: {found.reason}. {log} When mended, `headstart retry "
        f"{run.run_id}` goes on from there."
    )
