"""The runs on a server: found, listed, retried, terminated."""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from kfp_server_api import V2beta1Experiment as Experiment
from kfp_server_api import V2beta1Run as Run

from headstart.errors import InputError
from headstart_pipelines.cluster.connection import Server
from headstart_pipelines.cluster.steps import Step, steps_of
from headstart_pipelines.cluster.transport import NotFoundError

FINAL = frozenset({"SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"})
_PAGE = 100


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
    for run in _listed(server, **options):
        if len(rows) == limit:
            break
        ended = run.finished_at if run.state in FINAL else None
        rows.append(
            {
                "run": run.display_name,
                "state": (run.state or "PENDING").lower(),
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
            f"The run {run.display_name} has not failed (it is {(run.state or 'PENDING').lower()}), so there is "
            "nothing to retry."
        )
    server.runs.run_service_retry_run(run.run_id)
    return run


def terminate(server: Server, name: str) -> Run:
    """Stops a run. InputError if it has ended."""
    run = find_run(server, name)
    if run.state in FINAL:
        raise InputError(f"The run {run.display_name} has ended already ({run.state.lower()}).")
    server.runs.run_service_terminate_run(run.run_id)
    return run


def steps_of_run(server: Server, run: Run) -> list[Step]:
    """The steps of a run's pipeline."""
    reference = run.pipeline_version_reference
    package: Mapping[str, Any] | None = run.pipeline_spec
    if package is None and reference:
        package = server.pipelines.pipeline_service_get_pipeline_version(
            reference.pipeline_id, reference.pipeline_version_id
        ).pipeline_spec
    if not package:
        raise InputError(f"The server does not tell which pipeline the run {run.display_name} is of.")
    return steps_of(package, (run.runtime_config.parameters if run.runtime_config else None) or {})


def find_experiment(server: Server, name: str) -> Experiment | None:
    """The experiment called `name`."""
    listed = _experiments(server, filter=equals("display_name", name))
    return next((each for each in listed if each.display_name == name), None)


def equals(key: str, value: str) -> str:
    """A filter, in KFP's notation, for what has `value` as its `key`."""
    return json.dumps({"predicates": [{"operation": "EQUALS", "key": key, "string_value": value}]})


def paged(ask: Callable[..., Any], entries: str, **options: Any) -> Iterator[Any]:
    """Everything that a list of the API has, page after page."""
    token = ""
    while True:
        answer = ask(page_size=_PAGE, **options, **({"page_token": token} if token else {}))
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
