"""The runs on a server: found, listed, retried, terminated."""

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

from kfp_server_api import V2beta1Experiment as Experiment
from kfp_server_api import V2beta1Run as Run

from headstart.errors import InputError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.transport import NotFoundError

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_PAGE = 100


def word_of(run: Run) -> str:
    """What a run is: pending, running, paused, terminating, succeeded, failed, terminated or skipped."""
    if run.state == "CANCELED" or (run.state in FINAL and terminated_at(run)):
        return "terminated"
    return "terminating" if run.state == "CANCELING" else (run.state or "PENDING").lower()


def terminated_at(run: Run) -> datetime | None:
    """When somebody terminated a run, unless it has gone on, or ended well, since.

    Kubeflow Pipelines calls a terminated run failed; what it was just before tells.
    """
    history = [each for each in run.state_history or () if each.state]
    while history and history[-1].state in ("FAILED", "CANCELED"):
        history.pop()
    return history[-1].update_time if history and history[-1].state == "CANCELING" else None


def is_lost(server: Server, run: Run) -> bool:
    """Whether a run's workflow is gone, though the server shows the run as running for ever.

    Whoever deletes a schedule deletes the workflows of its runs with it, and nobody tells the runs.
    """
    if run.state in FINAL or not run.recurring_run_id:
        return False
    try:
        server.schedules.recurring_run_service_get_recurring_run(run.recurring_run_id)
    except NotFoundError:
        return True
    return False


def find_run(server: Server, name: str) -> Run:
    """The run with an id or, the latest of them, a name. InputError if there is none."""
    if _is_id(name):
        try:
            return server.runs.run_service_get_run(name)
        except NotFoundError:
            pass
    else:
        for run in _listed(server, filter=equals("display_name", name)):
            return server.runs.run_service_get_run(run.run_id)
    raise InputError(f"There is no run {name} on {server.host}; `headstart runs` lists those that there are.")


def list_runs(server: Server, *, experiment: str | None = None, limit: int) -> list[dict[str, Any]]:
    """The latest runs of the experiment or, without one, of all: run, state, created, finished, seconds, experiment, id
    and page.

    Raises:
        InputError: there is no such experiment.
    """
    experiments = {each.experiment_id: each.display_name for each in _experiments(server)}
    options = {}
    if experiment is not None:
        found = find_experiment(server, experiment)
        if found is None:
            raise InputError(
                f"There is no experiment {experiment} on {server.host}; it is called as the recipe that was submitted."
            )
        options["experiment_id"] = found.experiment_id
    rows: list[dict[str, Any]] = []
    gone: dict[str, bool] = {}
    for run in _listed(server, **options):
        if len(rows) == limit:
            break
        ended = run.finished_at if run.state in FINAL else None
        is_going = bool(run.recurring_run_id) and run.state not in FINAL
        if is_going and run.recurring_run_id not in gone:
            gone[run.recurring_run_id] = is_lost(server, run)
        rows.append(
            {
                "run": run.display_name,
                "state": "lost" if is_going and gone[run.recurring_run_id] else word_of(run),
                "created": _iso(run.created_at),
                "finished": _iso(ended),
                "seconds": (ended - run.created_at).total_seconds() if ended and run.created_at else None,
                "experiment": experiments.get(run.experiment_id),
                "run_id": run.run_id,
                "page": server.page(run.run_id),
            }
        )
    return rows


def retry(server: Server, name: str) -> Run:
    """Starts what failed in a run again, and what depends on it. InputError if nothing did."""
    run = find_run(server, name)
    if run.state not in ("FAILED", "CANCELED"):
        raise InputError(
            f"The run {run.display_name} has not failed (it is {word_of(run)}), so there is nothing to retry."
        )
    server.runs.run_service_retry_run(run.run_id)
    return run


def to_terminate(server: Server, name: str) -> Run:
    """The run that is to be terminated. InputError if it has ended, or was lost."""
    run = find_run(server, name)
    if run.state in FINAL:
        raise InputError(f"The run {run.display_name} has ended already ({word_of(run)}).")
    if is_lost(server, run):
        raise InputError(
            f"The run {run.display_name} was deleted with its schedule, and nothing of it works any more, though the "
            f"server shows it as {word_of(run)} for ever; there is nothing to terminate."
        )
    return run


def find_experiment(server: Server, name: str) -> Experiment | None:
    """The experiment called `name`."""
    listed = _experiments(server, filter=equals("display_name", name))
    return next((each for each in listed if each.display_name == name), None)


def equals(key: str, value: str) -> str:
    """A filter, in KFP's notation, for what has `value` as its `key`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": value}]})


def paged(ask: Callable[..., Any], entries: str, *, page_size: int = _PAGE, **options: Any) -> Iterator[Any]:
    """Everything that a list of the API has, page after page."""
    token = ""
    while True:
        answer = ask(page_size=page_size, **options, **({"page_token": token} if token else {}))
        yield from getattr(answer, entries) or ()
        token = answer.next_page_token
        if not token:
            return


def _listed(server: Server, **options: Any) -> Iterator[Run]:
    if server.namespace and "experiment_id" not in options:
        options["namespace"] = server.namespace
    return paged(server.runs.run_service_list_runs, "runs", sort_by="created_at desc", **options)


def _experiments(server: Server, **options: Any) -> Iterator[Experiment]:
    if server.namespace:
        options["namespace"] = server.namespace
    return paged(server.experiments.experiment_service_list_experiments, "experiments", **options)


def _is_id(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def _iso(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at and at.year > 1970 else None
