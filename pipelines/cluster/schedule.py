"""Schedules: pipelines that run periodically, as KFP's recurring runs."""

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

import kfp_server_api
from kfp_server_api import V2beta1RecurringRun as Schedule
from kfp_server_api import V2beta1Run as Run

from headstart.errors import InputError
from headstart_pipelines.catalog import Job
from headstart_pipelines.cluster import clock
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.cron import Cron
from headstart_pipelines.cluster.listing import equals, named, paged
from headstart_pipelines.cluster.runs import FINAL, align, iso, stop, word_of
from headstart_pipelines.cluster.submission import Package, upload, work

# The number of concurrent runs of a schedule. At this number, the next run starts when one of them ends.
OVERLAPS = {"forbid": 1, "allow": 10}

# Time from a tick until the server reports its run.
_GRACE = timedelta(minutes=2)
# More than the active runs that a schedule can have.
_LATEST = 20


def schedule(
    server: Server, job: Job, package: Package, cron: Cron, *, name: str, overlap: str, catch_up: bool
) -> Schedule:
    """Create a schedule that runs the job at the ticks of `cron`.

    Args:
        overlap: one of `OVERLAPS`.
        catch_up: start one run for every tick that was missed in an outage or during a long run, instead of one for
            all.

    Raises:
        InputError: the name is taken.
    """
    if _named(server, name):
        raise InputError(
            f"There is a schedule {name} already; remove it with `headstart schedule --delete {name}`, or choose "
            "another --name."
        )
    version, _ = upload(server, package)
    return server.schedules.recurring_run_service_create_recurring_run(
        # KFP's MLflow plugin gets no settings: with `plugins_input` the server stores the schedule without the
        # pipeline's parameters, and every run fails because they are missing.
        Schedule(
            display_name=name,
            **work(server, job, package, version),
            trigger=kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=cron.text)),
            mode="ENABLE",
            max_concurrency=str(OVERLAPS[overlap]),
            no_catchup=not catch_up,
        )
    )


def list_schedules(server: Server) -> list[dict[str, Any]]:
    """Return every schedule: schedule, cron, enabled, overlap, catch_up, created and schedule_id; last_run,
    last_run_id, last_state and last_tick; missed, the last tick without a run, and look, the command that shows the
    reason."""
    listed = paged(server.schedules.recurring_run_service_list_recurring_runs, "recurring_runs", **server.scope)
    return [_row(server, each) for each in listed]


def _row(server: Server, schedule: Schedule) -> dict[str, Any]:
    last = next(_runs_of(server, schedule, 1), None)
    missed = _missed(schedule, last, clock.now())
    return {
        "schedule": schedule.display_name,
        "cron": _cron_of(schedule),
        "enabled": schedule.status == "ENABLED",
        "overlap": "forbid" if _at_once(schedule) == 1 else "allow",
        "catch_up": not schedule.no_catchup,
        "created": iso(schedule.created_at),
        "schedule_id": schedule.recurring_run_id,
        "last_run": last.display_name if last else None,
        "last_run_id": last.run_id if last else None,
        "last_state": word_of(last) if last else None,
        "last_tick": iso(last.scheduled_at) if last else None,
        "missed": iso(missed),
        "look": _look(schedule, last) if missed else None,
    }


def _missed(schedule: Schedule, last: Run | None, now: datetime) -> datetime | None:
    """Return the last tick at which a run should have started and did not; None if there is none or it is unknown."""
    try:
        cron = Cron.of(_cron_of(schedule) or "")
    except InputError:
        return None
    if schedule.status != "ENABLED":
        return None
    since = max(at for at in (schedule.created_at, schedule.updated_at) if at)
    if last:
        # A run at another time means that the server's clock is not in UTC; missed ticks are then unknown.
        if not cron.matches(last.scheduled_at):
            return None
        # A running one delays the next.
        if _at_once(schedule) == 1 and (last.state not in FINAL or now - last.finished_at < _GRACE):
            return None
        since = max(since, last.scheduled_at)
    return cron.latest(since, now - _GRACE)


def _look(schedule: Schedule, last: Run | None) -> str:
    """Return the command that shows the events of a schedule's Kubernetes object, which tell why it starts nothing."""
    # The server builds the object's name from the schedule's and five characters; kubectl accepts a prefix.
    name = re.sub("[^a-z0-9-]+", "", str(schedule.display_name).lower())[:25]
    if last and (found := re.fullmatch(r"(.+)-\d+-\d+", str(last.display_name))):
        name = found[1]
    return f"kubectl describe -n {schedule.namespace or 'kubeflow'} scheduledworkflow {name}"


def switch(server: Server, name: str, *, on: bool) -> None:
    """Enable or disable the schedule called `name`.

    Raises:
        InputError: there is none, or several.
    """
    service = server.schedules
    change = (
        service.recurring_run_service_enable_recurring_run
        if on
        else service.recurring_run_service_disable_recurring_run
    )
    change(_one(server, name).recurring_run_id)


def delete(server: Server, name: str, *, terminate: bool = False, force: bool = False) -> list[Run]:
    """Delete the schedule called `name`; return the runs that were lost with it.

    Kubernetes deletes the workflows of a schedule with it, and KFP then shows an active run as running for ever. So no
    run may be active, unless `terminate` ends them first, or `force` accepts that they are lost.

    Raises:
        InputError: there is no such schedule, or several, or one of its runs is active.
        HeadstartError: a run does not end after it was terminated.
    """
    found = _one(server, name)
    going = _going(server, found)
    if going and not (terminate or force):
        raise InputError(
            f"The run {going[0].display_name} of {name} is going, and would be deleted with it, unfinished. Stop new "
            f"runs with `headstart schedule --disable {name}` and delete when it has ended; or add --terminate to end "
            "it now, or --force to lose it."
        )
    if found.status == "ENABLED":
        server.schedules.recurring_run_service_disable_recurring_run(found.recurring_run_id)
    if terminate:
        for run in going:
            stop(server, run)
    going = _going(server, found)
    if going and not force:
        raise InputError(
            f"The run {going[0].display_name} of {name} started just now. The schedule is disabled; delete it when the "
            "run has ended."
        )
    server.schedules.recurring_run_service_delete_recurring_run(found.recurring_run_id)
    for run in going:
        align(run, "lost")
    return going


def _going(server: Server, schedule: Schedule) -> list[Run]:
    return [run for run in _runs_of(server, schedule, _LATEST) if run.state not in FINAL]


def _runs_of(server: Server, schedule: Schedule, limit: int) -> Iterator[Run]:
    """Yield the latest runs of a schedule."""
    listed = paged(
        server.runs.run_service_list_runs, "runs", page_size=limit, sort_by="created_at desc",
        filter=equals("recurring_run_id", schedule.recurring_run_id),
        **server.scope,
    )  # fmt: skip
    return islice(listed, limit)


def _one(server: Server, name: str) -> Schedule:
    found = _named(server, name)
    if len(found) != 1:
        raise InputError(
            f"There {'is no schedule' if not found else 'are several schedules'} {name} on {server.host}; `headstart "
            "schedule --list` lists them."
        )
    return found[0]


def _named(server: Server, name: str) -> list[Schedule]:
    return named(server.schedules.recurring_run_service_list_recurring_runs, "recurring_runs", name, **server.scope)


def _cron_of(schedule: Schedule) -> str | None:
    return schedule.trigger.cron_schedule.cron if schedule.trigger and schedule.trigger.cron_schedule else None


def _at_once(schedule: Schedule) -> int:
    return int(schedule.max_concurrency or 1)
