"""MLflow runs: one parent for a pipeline run, one child for a step or strategy, found from the environment."""

import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError
from headstart.signals import exiting_when_terminated
from headstart.tracking.client import await_server, connect, explained, user_name
from headstart.tracking.metric_queue import MetricQueue
from headstart.tracking.names import CREATION, EXPERIMENT_KIND, PARENT_RUN, PIPELINE_RUN, ROLE, SOURCE_NAME, USER

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunInfo

# Set by the local runner, which makes the parent before the first step starts.
PARENT_VARIABLE = "HEADSTART_PARENT_RUN_ID"
# Set on a cluster from the pod's label `pipeline/runid`.
KFP_RUN_VARIABLE = "KFP_RUN_ID"
# Set by KFP's MLflow plugin: the run that it made for this task.
INJECTED_VARIABLE = "MLFLOW_RUN_ID"

# Longer than a step takes from looking for a parent to having written its own.
_SETTLING_SECONDS = 2.0

_PARAM_LIMIT = 6000

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One MLflow run to write to.

    `log_epoch` returns at once and `flush` waits for what it left to do. Everything else is one request that is done
    when the call returns: it comes before or after training, costs milliseconds there, and what the server refuses is
    raised where it was asked for.
    """

    client: "MlflowClient"
    id: str
    experiment_id: str
    parent_id: str | None

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Parameters; nested mappings become dotted keys, values are cut at MLflow's 6000 characters."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:_PARAM_LIMIT]) for key, value in _flat(params)]
        with explained():
            for start in range(0, len(entries), 100):
                self.client.log_batch(self.id, params=entries[start : start + 100])

    def log_metrics(self, metrics: Mapping[str, float], step: int = 0) -> None:
        """Metrics at `step`. What is infinite is kept as NaN: MLflow would make it the largest number there is."""
        with explained():
            self.client.log_batch(self.id, metrics=_entries(metrics, step))

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Queues the metrics of an epoch, which is their step, in the shape that the training loop calls."""
        self._epochs.put(_entries(metrics, epoch))

    def flush(self) -> None:
        """Waits until every epoch is written.

        Raises:
            HeadstartError: the server refused a metric or stayed away for minutes.
        """
        self._epochs.flush()

    @cached_property
    def _epochs(self) -> MetricQueue:
        return MetricQueue(self.client, self.id)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags, each replacing what it was."""
        from mlflow.entities import RunTag

        with explained():
            self.client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log_page(self, name: str, html: str) -> None:
        """An HTML page as the artifact `name`, whose ending .html makes the MLflow page show it."""
        with explained():
            self.client.log_text(self.id, html, name)

    def log_json(self, name: str, content: Mapping[str, Any]) -> None:
        """JSON values as the artifact `name`, which ends in .json."""
        with explained():
            self.client.log_dict(self.id, dict(content), name)

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """The file at `path`, kept in the run's artifacts under `folder`."""
        with explained():
            self.client.log_artifact(self.id, str(path), folder)


@contextmanager
def step_run(
    experiment: str, name: str, *, role: str | None = None, tags: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """The MLflow run of a step: the injected one, or a new child of the pipeline run's parent.

    A new run ends as FINISHED, as FAILED if the body raises, or as KILLED if it is interrupted or terminated, as pods
    are; whichever it is, what was logged is written before. An injected one belongs to KFP's MLflow plugin, which also
    ends it; it is taken once, by the first call of a process. A server that does not answer yet is waited for.

    Raises:
        HeadstartError: the server does not answer, or refused something that was logged.
    """
    client = connect()
    await_server(client.tracking_uri)
    all_tags = {**({ROLE: role} if role else {}), **(tags or {})}
    injected = os.environ.pop(INJECTED_VARIABLE, None)
    if injected:
        run = _adopted(client, injected, name, all_tags)
        with _written(run):
            yield run
        return
    run = child_run(parent_run(client, experiment), name, all_tags)
    try:
        with _written(run):
            yield run
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        _although_failed(lambda: end(run, status))
        raise
    end(run, "FINISHED")


@contextmanager
def _written(run: Run) -> Iterator[None]:
    """Leaves no epoch unwritten, however the body ends; a terminated one ends as an interrupted one does."""
    with exiting_when_terminated():
        try:
            yield
        except BaseException:
            _although_failed(run.flush)
            raise
        run.flush()


def _although_failed(action: Callable[[], None]) -> None:
    """Does what is left to do for a step that failed; a failure of this must not hide the step's own."""
    try:
        action()
    except HeadstartError as error:
        log.warning("%s", error)


def end(run: Run, status: str) -> None:
    """Ends a run as FINISHED, FAILED or KILLED."""
    with explained():
        run.client.set_terminated(run.id, status)


def end_with_steps(parent: Run, status: str) -> None:
    """Ends a pipeline run's parent, and as KILLED the runs of steps that could not do so, as when memory ran out."""
    running = f"tags.`{PARENT_RUN}` = '{parent.id}' and attributes.status = 'RUNNING'"
    with explained():
        for run in parent.client.search_runs([parent.experiment_id], running):
            parent.client.set_terminated(run.info.run_id, "KILLED")
    end(parent, status)


def _adopted(client: "MlflowClient", run_id: str, name: str, tags: Mapping[str, str]) -> Run:
    """The run that KFP's MLflow plugin made for this step. Its parent becomes that of the step's further runs, and is
    marked as the pipeline run's like one that a step makes itself."""
    with explained():
        found = client.get_run(run_id)
    run = Run(client, run_id, found.info.experiment_id, found.data.tags.get(PARENT_RUN))
    parent = os.environ[PARENT_VARIABLE] = run.parent_id or run.id
    pipeline_run = os.environ.get(KFP_RUN_VARIABLE)
    if pipeline_run:
        with explained():
            client.set_tag(parent, PIPELINE_RUN, pipeline_run)
    run.set_tags({**tags, "mlflow.runName": name})
    return run


def child_run(parent: Run, name: str, tags: Mapping[str, str]) -> Run:
    """A new, running child of `parent`."""
    run_id = _create(parent.client, parent.experiment_id, name, {PARENT_RUN: parent.id, **tags})
    return Run(parent.client, run_id, parent.experiment_id, parent.id)


def parent_run(client: "MlflowClient", experiment: str) -> Run:
    """The pipeline run's parent: the one that the environment names, else the one tagged with the KFP run id.

    Steps that start together may all find none and make one each. Whoever made one or finds one this young looks again
    when all of them must be written, so that all take the same, the earliest; the others are deleted by their makers.
    """
    known = os.environ.get(PARENT_VARIABLE)
    if known:
        with explained():
            return Run(client, known, client.get_run(known).info.experiment_id, None)
    pipeline_run = os.environ.get(KFP_RUN_VARIABLE)
    if not pipeline_run:
        raise HeadstartError(
            f"This step does not know its pipeline run: none of {INJECTED_VARIABLE}, {PARENT_VARIABLE} and "
            f"{KFP_RUN_VARIABLE} is set; run it through `headstart run` or `headstart submit`."
        )
    experiment_id = experiment_named(client, experiment)
    found = _parents(client, experiment_id, pipeline_run)
    made = None
    if not found:
        made = new_parent(client, experiment_id, name=f"{experiment}-{pipeline_run[:8]}", pipeline_run=pipeline_run)
    if made or time.time() - found[0].start_time / 1000 < 2 * _SETTLING_SECONDS:
        time.sleep(_SETTLING_SECONDS)
        found = _parents(client, experiment_id, pipeline_run)
    chosen = found[0].run_id
    if made and made.id != chosen:
        with explained():
            client.delete_run(made.id)
    return Run(client, chosen, experiment_id, None)


def new_parent(
    client: "MlflowClient", experiment_id: str, *, name: str, pipeline_run: str, tags: Mapping[str, str] | None = None
) -> Run:
    """A parent run for the pipeline run called `pipeline_run`."""
    run_id = _create(client, experiment_id, name, {PIPELINE_RUN: pipeline_run, **(tags or {})})
    return Run(client, run_id, experiment_id, None)


def experiment_named(client: "MlflowClient", name: str, artifact_location: str | None = None) -> str:
    """The id of the experiment `name`, made if it does not exist (another step may be making it too)."""
    from mlflow.exceptions import MlflowException

    with explained():
        experiment = client.get_experiment_by_name(name)
        if experiment is None:
            try:
                # The kind makes the MLflow page open on the runs; by default it opens on traces of agents.
                tags = {EXPERIMENT_KIND: "custom_model_development"}
                return client.create_experiment(name, artifact_location=artifact_location, tags=tags)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
                experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise HeadstartError(
            f"The MLflow experiment {name!r} was deleted; restore it in the MLflow page or rename the recipe."
        )
    return experiment.experiment_id


def _create(client: "MlflowClient", experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    """The id of a new run, the only one even if the connection broke before the server's answer came: MLflow's client
    then asks again, and the server has made two."""
    mark = uuid.uuid4().hex
    ours = {CREATION: mark, USER: user_name(), SOURCE_NAME: "headstart"}
    with explained():
        created = client.create_run(
            experiment_id, run_name=name, tags={**ours, **{key: str(value) for key, value in tags.items()}}
        )
        for run in client.search_runs([experiment_id], f"tags.`{CREATION}` = '{mark}'"):
            if run.info.run_id != created.info.run_id:
                client.delete_run(run.info.run_id)
    return created.info.run_id


def _parents(client: "MlflowClient", experiment_id: str, pipeline_run: str) -> list["RunInfo"]:
    """The parents that were made for a pipeline run, the earliest first."""
    # The run id breaks ties between equal start times the same way for every reader.
    with explained():
        found = client.search_runs(
            [experiment_id],
            f"tags.`{PIPELINE_RUN}` = '{pipeline_run}'",
            order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
        )
    return [run.info for run in found if PARENT_RUN not in run.data.tags]


def _entries(metrics: Mapping[str, float], step: int) -> list["Metric"]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(key, float(value) if math.isfinite(value) else math.nan, now, step) for key, value in metrics.items()
    ]


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
