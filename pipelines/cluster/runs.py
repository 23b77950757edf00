"""Runs on a server: search, list, retry and terminate them, and keep MLflow's record consistent."""

import contextlib
import functools
import logging
import os
import uuid
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from kfp_server_api import V2beta1Experiment as Experiment
from kfp_server_api import V2beta1Run as Run

from headstart.errors import HeadstartError, InputError
from headstart.tracking.client import reach
from headstart_pipelines.cluster import clock
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.listing import equals, named, paged
from headstart_pipelines.cluster.transport import NotFoundError, UnansweredError

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
# MLflow's status for each state of a finished run.
_STATUS = {"succeeded": "FINISHED", "failed": "FAILED", "terminated": "KILLED", "lost": "KILLED"}

_POLL_SECONDS = 2.0
# A step has 30 seconds to write its checkpoint, and Argo checks every ten.
_PATIENCE_SECONDS = 180.0

log = logging.getLogger(__name__)


def word_of(run: Run) -> str:
    """Return a run's state in one word: pending, running, paused, terminating, succeeded, failed, terminated or
    skipped."""
    if run.state == "CANCELED" or (run.state in FINAL and terminated_at(run)):
        return "terminated"
    return "terminating" if run.state == "CANCELING" else (run.state or "PENDING").lower()


def terminated_at(run: Run) -> datetime | None:
    """Return the time when a run was terminated; None if it was not, or has continued or succeeded since.

    Kubeflow Pipelines reports a terminated run as failed; its previous state distinguishes the two.
    """
    history = [each for each in run.state_history or () if each.state]
    while history and history[-1].state in ("FAILED", "CANCELED"):
        history.pop()
    return history[-1].update_time if history and history[-1].state == "CANCELING" else None


def is_lost(server: Server, run: Run) -> bool:
    """Return whether a run's workflow is gone, although the server shows the run as running for ever.

    Deleting a schedule deletes the workflows of its runs, but does not update the runs.
    """
    return run.state not in FINAL and bool(run.recurring_run_id) and _is_deleted(server, run.recurring_run_id)


def find_run(server: Server, name: str) -> Run:
    """Find a run by its id, or the latest one by its name.

    Raises:
        InputError: there is none.
    """
    if _is_id(name):
        try:
            return server.runs.run_service_get_run(name)
        except NotFoundError:
            pass
    else:
        if run := latest_named(server, name):
            return server.runs.run_service_get_run(run.run_id)
    raise InputError(f"There is no run {name} on {server.host}; `headstart runs` lists those that there are.")


def latest_named(server: Server, name: str) -> Run | None:
    """Return the latest run called `name`, None if there is none."""
    return next(iter(_latest(server, **server.scope, filter=equals("display_name", name))), None)


def list_runs(server: Server, *, experiment: str | None = None, limit: int) -> list[dict[str, Any]]:
    """Return the latest runs, of one experiment or of all: run, state, created, finished, seconds, experiment, run_id
    and page.

    Raises:
        InputError: there is no such experiment.
    """
    listed = paged(server.experiments.experiment_service_list_experiments, "experiments", **server.scope)
    experiments = {each.experiment_id: each.display_name for each in listed}
    options = dict(server.scope)
    if experiment is not None:
        found = find_experiments(server, experiment)
        if not found:
            raise InputError(
                f"There is no experiment {experiment} on {server.host}; it is called as the recipe that was submitted."
            )
        options = {"experiment_id": found[0].experiment_id}
    is_deleted = functools.cache(functools.partial(_is_deleted, server))
    rows = []
    for run in islice(_latest(server, **options), limit):
        ended = run.finished_at if run.state in FINAL else None
        lost = run.state not in FINAL and run.recurring_run_id and is_deleted(run.recurring_run_id)
        rows.append(
            {
                "run": run.display_name,
                "state": "lost" if lost else word_of(run),
                "created": iso(run.created_at),
                "finished": iso(ended),
                "seconds": (ended - run.created_at).total_seconds() if ended and run.created_at else None,
                "experiment": experiments.get(run.experiment_id),
                "run_id": run.run_id,
                "page": server.page(run.run_id),
            }
        )
    return rows


def retry(server: Server, name: str) -> Run:
    """Start the failed steps of a run again, and the steps that depend on them.

    Raises:
        InputError: nothing in it failed.
    """
    run = find_run(server, name)
    if run.state not in ("FAILED", "CANCELED"):
        raise InputError(
            f"The run {run.display_name} has not failed (it is {word_of(run)}), so there is nothing to retry."
        )
    server.runs.run_service_retry_run(run.run_id)
    return run


def to_terminate(server: Server, name: str) -> Run:
    """Find a run to terminate.

    Raises:
        InputError: it has ended, or is lost.
    """
    run = find_run(server, name)
    if run.state in FINAL:
        raise InputError(f"The run {run.display_name} has ended already ({word_of(run)}).")
    if is_lost(server, run):
        raise InputError(
            f"The run {run.display_name} was deleted with its schedule, and nothing of it works any more, though the "
            f"server shows it as {word_of(run)} for ever; there is nothing to terminate."
        )
    return run


def stop(server: Server, run: Run) -> Run:
    """Terminate a run unless that is in progress, wait for its end, close its record and return it.

    Raises:
        HeadstartError: it has not ended after minutes.
    """
    if run.state != "CANCELING":
        server.runs.run_service_terminate_run(run.run_id)
    since = clock.now()
    while (clock.now() - since).total_seconds() < _PATIENCE_SECONDS:
        with contextlib.suppress(UnansweredError):
            run = server.runs.run_service_get_run(run.run_id)
            if run.state in FINAL:
                align(run, word_of(run))
                return run
        clock.sleep(_POLL_SECONDS)
    raise HeadstartError(
        f"The run {run.display_name} was told to end and has not for {_PATIENCE_SECONDS:g} seconds; `headstart runs "
        f"{run.run_id}` says when it has."
    )


def align(run: Run, word: str) -> None:
    """End the MLflow record of a run in the state `word`, or reopen it for `retried`.

    The run's last step ends the record too, but it does not start in a run that was terminated, under Kubeflow
    Pipelines' own configuration, or whose workflow was deleted. Nothing is done if MLFLOW_TRACKING_URI is not set or
    nothing answers there; the end of the run does not depend on it.
    """
    from headstart.tracking.runs import close_record, reopen_record

    uri = os.environ.get("MLFLOW_TRACKING_URI")
    experiment = parameters_of(run).get("name")
    if not uri or not experiment or not (word == "retried" or word in _STATUS):
        return
    ended = run.finished_at if iso(run.finished_at) else None
    try:
        reach(uri)
        if word == "retried":
            reopen_record(experiment, run.run_id)
        else:
            close_record(experiment, _STATUS[word], pipeline_run=run.run_id, ended=ended)
    except HeadstartError as error:
        log.info("The record of %s stays as it is: %s", run.display_name, error)


def parameters_of(run: Run) -> dict[str, Any]:
    """Return the parameters that a run was started with."""
    return (run.runtime_config.parameters if run.runtime_config else None) or {}


def find_experiments(server: Server, name: str) -> list[Experiment]:
    """Return the experiments called `name`, at most one."""
    return named(server.experiments.experiment_service_list_experiments, "experiments", name, **server.scope)


def iso(at: datetime | None) -> str | None:
    """Format a time; None for a missing one, which KFP writes as the year 1 or 1970."""
    return at.isoformat(timespec="seconds") if at and at.year > 1970 else None


def _is_deleted(server: Server, schedule: str) -> bool:
    try:
        server.schedules.recurring_run_service_get_recurring_run(schedule)
    except NotFoundError:
        return True
    return False


def _latest(server: Server, **options: Any) -> Iterator[Run]:
    return paged(server.runs.run_service_list_runs, "runs", sort_by="created_at desc", **options)


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
