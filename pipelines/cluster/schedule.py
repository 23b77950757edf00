"""Recipes that run by the clock: KFP's recurring runs."""

import re
from collections.abc import Iterator
from typing import Any

import kfp_server_api
from kfp_server_api import V2beta1RecurringRun as Schedule

from headstart.config import Recipe
from headstart.errors import InputError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.runs import equals, paged
from headstart_pipelines.cluster.submission import Package, upload, with_plugins_input, work

_FIELD = r"[\d*?,/\-A-Za-z]+"


def cron(expression: str) -> str:
    """A cron expression as KFP reads it, with seconds first; the usual five fields start at second 0.

    Raises:
        InputError: it has another number of fields, or a strange sign in one.
    """
    fields = expression.split()
    if len(fields) not in (5, 6) or not all(re.fullmatch(_FIELD, each) for each in fields):
        raise InputError(
            f"--cron {expression!r} is not understood; write minute, hour, day, month and weekday, for example "
            '"0 3 * * 1" for Mondays at three.'
        )
    return " ".join(fields if len(fields) == 6 else ["0", *fields])


def schedule(server: Server, recipe: Recipe, package: Package, *, name: str, at: str) -> Schedule:
    """Has the server run the recipe whenever the cron expression `at` says so, one run at a time.

    Raises:
        InputError: the name is taken.
    """
    if any(True for _ in _named(server, name)):
        raise InputError(
            f"There is a schedule {name} already; remove it with `headstart schedule --delete {name}`, or choose "
            "another --name."
        )
    version = upload(server, package)
    return with_plugins_input(
        server,
        recipe.name,
        server.schedules.recurring_run_service_create_recurring_run,
        Schedule(
            display_name=name,
            **work(server, recipe, package, version),
            trigger=kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=cron(at))),
            mode="ENABLE",
            max_concurrency="1",
            # After an outage, one run makes up for all that were missed.
            no_catchup=True,
        ),
    )


def list_schedules(server: Server) -> list[dict[str, Any]]:
    """Every schedule: name, cron, enabled, created and id."""
    return [
        {
            "schedule": each.display_name,
            "cron": each.trigger.cron_schedule.cron if each.trigger and each.trigger.cron_schedule else None,
            "enabled": each.status == "ENABLED",
            "created": each.created_at.isoformat(timespec="seconds") if each.created_at else None,
            "schedule_id": each.recurring_run_id,
        }
        for each in _listed(server)
    ]


def change(server: Server, name: str, action: str) -> None:
    """Does one of disable, enable and delete to the schedule called `name`. InputError if there is none, or several."""
    found = list(_named(server, name))
    if len(found) != 1:
        raise InputError(
            f"There {'is no schedule' if not found else 'are several schedules'} {name} on {server.host}; `headstart "
            "schedule --list` lists them."
        )
    getattr(server.schedules, f"recurring_run_service_{action}_recurring_run")(found[0].recurring_run_id)


def _named(server: Server, name: str) -> Iterator[Schedule]:
    listed = _listed(server, filter=equals("display_name", name))
    return (each for each in listed if each.display_name == name)


def _listed(server: Server, **options: Any) -> Iterator[Schedule]:
    if server.namespace:
        options["namespace"] = server.namespace
    return paged(server.schedules.recurring_run_service_list_recurring_runs, "recurring_runs", **options)
