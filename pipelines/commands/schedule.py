"""`headstart schedule`: a recipe by the clock of Kubeflow Pipelines."""

import argparse
import json
from typing import TYPE_CHECKING

from headstart.errors import InputError
from headstart.terminal import printable
from headstart_pipelines.commands.arguments import CLOCK, JSON, Command, either, option, placement, recipe
from headstart_pipelines.commands.server import SERVER, built, connected

if TYPE_CHECKING:
    from headstart_pipelines.catalog import Job
    from headstart_pipelines.cluster.cron import Cron
    from headstart_pipelines.cluster.submission import Package


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
    from headstart_pipelines.cluster.schedule import list_schedules

    server = connected(options)
    rows = list_schedules(server)
    display.show_list(rows, view.schedules_table, f"There are no schedules on {server.host}.", as_json=options.json)
    for row in rows if not options.json else ():
        if row["missed"]:
            print(
                f"{printable(row['schedule'])}: nothing was started at {display.minute(row['missed'])} "
                f"UTC. The server does not say why; the events of its object do:\n  {row['look']}"
            )


def _change_schedule(options: argparse.Namespace) -> None:
    from headstart_pipelines.cluster.schedule import delete, switch

    server = connected(options)
    if name := options.delete:
        lost = delete(server, name, terminate=options.terminate, force=options.force)
        print(f"{name} is deleted.")
        for run in lost:
            print(f"Its run {printable(run.display_name)} is lost; Kubeflow Pipelines shows it as running for ever.")
    elif name := options.enable:
        switch(server, name, on=True)
        print(f"{name} is enabled.")
    else:
        switch(server, options.disable, on=False)
        print(f"{options.disable} is disabled.")


def _make_schedule(options: argparse.Namespace) -> None:
    from headstart_pipelines.catalog import Job

    if not options.recipe or not options.cron:
        raise InputError(
            'Give a recipe and when it is to run, for example digits.yaml --cron "0 3 * * 1"; or --list, --disable, '
            "--enable or --delete."
        )
    cron = cron_of(options)
    resolved, package, _ = built(options, live=True)
    name = options.name or resolved.name
    schedule_job(options, Job.of(resolved), package, cron, name, overlap=options.overlap, catch_up=options.catch_up)


def cron_of(options: argparse.Namespace) -> "Cron":
    """When --cron, in the zone of --timezone, is in the server's time; InputError where there is no saying it."""
    from headstart_pipelines.cluster import clock
    from headstart_pipelines.cluster.cron import Cron

    cron = Cron.of(options.cron)
    return cron.from_zone(options.timezone, clock.now()) if options.timezone else cron


def schedule_job(
    options: argparse.Namespace,
    job: "Job",
    package: "Package",
    cron: "Cron",
    name: str,
    *,
    overlap: str = "forbid",
    catch_up: bool = False,
) -> None:
    """Create the schedule `name` on the server of the options, and say when it runs."""
    from headstart_pipelines.cluster.schedule import schedule

    made = schedule(connected(options), job, package, cron, name=name, overlap=overlap, catch_up=catch_up)
    if options.json:
        print(
            json.dumps(
                {"schedule": made.display_name, "cron": cron.text, "schedule_id": made.recurring_run_id}, indent=2
            )
        )
    else:
        print(f"{made.display_name} runs at {cron.text!r} (seconds first, in UTC).")
        print(f"`headstart schedule --disable {made.display_name}` stops it, --delete forgets it.")


COMMANDS = (
    Command(
        "schedule",
        _schedule,
        "run a recipe on a cluster by the clock, or look after what does",
        'headstart schedule digits.yaml --cron "0 3 * * 1" --profile infra/profiles/cpu.yaml --image NAME@sha256:…\n'
        '  headstart schedule digits.yaml --cron "30 9 * * MON-FRI" --timezone Asia/Tokyo --profile … --image …\n'
        "  headstart schedule --list\n"
        "  headstart schedule --delete digits",
        (
            *recipe(nargs="?"),
            *CLOCK,
            option("--overlap", choices=("forbid", "allow"), default="forbid", help="at a tick while a run goes: start "
                   "the next when it has ended (forbid, the default), or at once"),
            option("--catch-up", action="store_true", help="one run for each tick that was left out, instead of one "
                   "for all of them"),
            option("--name", metavar="NAME", help="the schedule's name (default: the recipe's)"),
            *placement(default="the profile's"),
            either(
                option("--list", action="store_true", help="list the schedules and their last runs"),
                *(
                    option(f"--{action}", metavar="NAME", help=f"{action} a schedule")
                    for action in ("disable", "enable", "delete")
                ),
            ),
            either(
                option("--terminate", action="store_true", help="with --delete: end the schedule's run that goes"),
                option("--force", action="store_true", help="with --delete: lose the schedule's run that goes"),
            ),
            JSON,
            SERVER,
        ),
    ),
)  # fmt: skip
