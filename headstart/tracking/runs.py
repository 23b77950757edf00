"""MLflow runs: one parent for each pipeline run and one child for each step or strategy, found through the
environment."""

import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError
from headstart.signals import exiting_when_terminated
from headstart.tracking.champion_ledger import without_ledger
from headstart.tracking.client import await_server, connect, explained, ignoring, search_all, user_name
from headstart.tracking.data_inputs import inputs_of
from headstart.tracking.database import artifacts_beside, file_of
from headstart.tracking.metric_queue import MetricQueue
from headstart.tracking.mlflow_pages import run_page
from headstart.tracking.names import (
    CREATION,
    EXPERIMENT_KIND,
    NOTE,
    PARENT_RUN,
    PIPELINE_RUN,
    PLUGIN_PIPELINE_RUN,
    REUSED_FROM,
    ROLE,
    RUN_NAME,
    SOURCE_NAME,
    STRATEGY,
    USER,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, RunInfo
    from mlflow.entities import Run as Record

    from headstart.data.dataset import Dataset

# Set by the local runner, which creates the parent run before the first step starts.
PARENT_VARIABLE = "HEADSTART_PARENT_RUN_ID"
# Set on a cluster from the pod's label `pipeline/runid`.
KFP_RUN_VARIABLE = "KFP_RUN_ID"
# Set by KFP's MLflow plugin: the id of the run that it created for this task.
INJECTED_VARIABLE = "MLFLOW_RUN_ID"

# Longer than a step takes between searching for a parent and having written its own.
_SETTLING_SECONDS = 2.0

_PARAM_LIMIT = 6000
_METRICS_AT_ONCE = 500

# `mlflow.source.name` of runs written by our steps. It distinguishes them from the runs that KFP's MLflow plugin keeps
# for graphs and loops.
_SOURCE = "headstart"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Run:
    """One MLflow run to write to.

    `log_epoch` queues its metrics and returns at once; `flush` waits until they are written. Every other method is one
    synchronous request, a few milliseconds before or after training, and raises what the server refuses.
    """

    client: "MlflowClient"
    id: str
    experiment_id: str
    parent_id: str | None

    @explained()
    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters. Nested mappings become dotted keys; values are cut at MLflow's limit of 6000 characters."""
        from mlflow.entities import Param

        entries = [Param(key, str(value)[:_PARAM_LIMIT]) for key, value in _flat(params)]
        for start in range(0, len(entries), 100):
            self.client.log_batch(self.id, params=entries[start : start + 100])

    @explained()
    def log_metrics(self, metrics: Mapping[str, float | None], step: int = 0) -> None:
        """Log metrics at `step`. None is left out; an infinite value is logged as NaN, because MLflow would store the
        largest float instead."""
        self.client.log_batch(self.id, metrics=_entries(metrics, step))

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Queue the metrics of an epoch, with the epoch as their step. The signature is that of the training loop's
        callback."""
        self._epochs.put(_entries(metrics, epoch))

    def flush(self) -> None:
        """Wait until every queued epoch is written.

        Raises:
            HeadstartError: the server refused a metric or was unreachable for minutes.
        """
        self._epochs.flush()

    @cached_property
    def _epochs(self) -> MetricQueue:
        return MetricQueue(self.client, self.id)

    @explained()
    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Set tags; existing values are replaced."""
        from mlflow.entities import RunTag

        self.client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    @explained()
    def log_data(self, dataset: "Dataset", splits: Iterable[str]) -> None:
        """Log the splits of a packed data set that are used, as MLflow shows them beside the run."""
        self.client.log_inputs(self.id, inputs_of(dataset, splits))

    @explained()
    def log_epochs(self, rows: Iterable[Mapping[str, float]]) -> None:
        """Log the metrics of all epochs of a training that has ended; each row holds them beside its "epoch"."""
        entries = [
            entry
            for row in rows
            for entry in _entries({key: value for key, value in row.items() if key != "epoch"}, int(row["epoch"]))
        ]
        for start in range(0, len(entries), _METRICS_AT_ONCE):
            self.client.log_batch(self.id, metrics=entries[start : start + _METRICS_AT_ONCE])

    @explained()
    def link_origin(self, run_id: str) -> None:
        """Say that an earlier run did this one's work, in a tag and in a description that links to it; its parameters
        become this run's too, so that comparisons of runs are complete."""
        tags, params = {REUSED_FROM: run_id}, {}
        # It may be deleted for good.
        with ignoring("RESOURCE_DOES_NOT_EXIST"):
            origin = self.client.get_run(run_id)
            link = f"[{origin.info.run_name}]({run_page(origin.info.experiment_id, run_id)})"
            tags[NOTE] = f"Reused: the work was done by the run {link}."
            params = without_ledger(origin.data.params)
        self.set_tags(tags)
        self.log_params(params)

    @explained()
    def log_page(self, name: str, html: str) -> None:
        """Log an HTML page as the artifact `name`, which ends in .html so that MLflow renders it."""
        self.client.log_text(self.id, html, name)

    @explained()
    def log_picture(self, name: str, svg: str) -> None:
        """Log an SVG picture as the artifact `name`, which ends in .svg so that MLflow draws it."""
        self.client.log_text(self.id, svg, name)

    @explained()
    def log_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Log JSON values as the artifact `name`, which ends in .json."""
        self.client.log_dict(self.id, dict(content), name)

    @explained()
    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        """Log the file at `path` as an artifact in `folder`."""
        self.client.log_artifact(self.id, str(path), folder)


@contextmanager
def step_run(
    experiment: str, name: str, *, role: str | None = None, tags: Mapping[str, str] | None = None
) -> Iterator[Run]:
    """Open the MLflow run of a step: the injected run, or a new child of the pipeline run's parent.

    A new run ends as FINISHED, as FAILED if the body raises, or as KILLED if it is interrupted or terminated, as pods
    are; in each case, queued metrics are written first. An injected run belongs to KFP's MLflow plugin, which also ends
    it; only the first call in a process uses it. A run that an earlier attempt of the step left open, because its
    process was killed, ends as KILLED. Waits for a server that does not answer yet.

    Raises:
        HeadstartError: the server does not answer, or refused something that was logged.
    """
    client = connect()
    await_server(client.tracking_uri)
    all_tags = {**({ROLE: role} if role else {}), **(tags or {})}
    injected = os.environ.pop(INJECTED_VARIABLE, None)
    if injected:
        run = _adopted(client, injected, name, all_tags)
        _end_earlier_attempts(run, name, all_tags)
        with _written(run):
            yield run
        return
    run = child_run(parent_run(client, experiment), name, all_tags)
    _end_earlier_attempts(run, name, all_tags)
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
    """Flush queued epochs however the body ends. SIGTERM is handled like an interrupt."""
    with exiting_when_terminated():
        try:
            yield
        except BaseException:
            _although_failed(run.flush)
            raise
        run.flush()


def _although_failed(action: Callable[[], None]) -> None:
    """Run the clean-up `action` of a failed step; its own error is only logged, so that it does not hide the step's."""
    try:
        action()
    except HeadstartError as error:
        log.warning("%s", error)


@explained()
def end(run: Run, status: str) -> None:
    """End a run as FINISHED, FAILED or KILLED."""
    run.client.set_terminated(run.id, status)


@explained()
def end_with_steps(parent: Run, status: str, ended: datetime | None = None) -> None:
    """End a pipeline run's parent and every run below it that is still open, at any depth, at the time `ended`
    (default: now).

    The run of a step ends as KILLED, because a step that could do so has ended its own; running out of memory is one
    reason why it cannot. A run that KFP's MLflow plugin keeps for a graph or a loop gets the parent's status.
    """
    at = int(ended.timestamp() * 1000) if ended else None
    client = parent.client
    running = f"tags.`{PARENT_RUN}` LIKE '%' and attributes.status = 'RUNNING'"
    for run in list(search_all(client.search_runs, [parent.experiment_id], running)):
        if _top(client, run).info.run_id == parent.id:
            of_a_step = run.data.tags.get(SOURCE_NAME) == _SOURCE
            client.set_terminated(run.info.run_id, "KILLED" if of_a_step else status, end_time=at)
    if client.get_run(parent.id).info.status != status:
        client.set_terminated(parent.id, status, end_time=at)


def close_record(
    experiment: str, status: str, *, pipeline_run: str | None = None, ended: datetime | None = None
) -> None:
    """End the record of a pipeline run by `end_with_steps`; do nothing if no step has created it.

    A step that starts later, because the pipeline run is retried, reopens the record.

    Args:
        experiment: the recipe's name.
        status: FINISHED, FAILED or KILLED.
        pipeline_run: the id of a run on the cluster; default: the one in the environment.
        ended: the time when the pipeline run ended; default: now.

    Raises:
        HeadstartError: the server does not answer, or the environment names no pipeline run.
    """
    client = connect()
    await_server(client.tracking_uri)
    parent = _begun(client, experiment, pipeline_run)
    if parent:
        end_with_steps(Run(client, parent.run_id, parent.experiment_id, None), status, ended)


def reopen_record(experiment: str, pipeline_run: str) -> None:
    """Set the record of a retried pipeline run to RUNNING again."""
    client = connect()
    if parent := _begun(client, experiment, pipeline_run):
        _reopen(client, parent)


def recorded_run(client: "MlflowClient", experiment: str, pipeline_run: str) -> Run | None:
    """Return the parent of a pipeline run on the cluster, None if no step has created it."""
    parent = _begun(client, experiment, pipeline_run)
    return Run(client, parent.run_id, parent.experiment_id, None) if parent else None


@explained()
def _begun(client: "MlflowClient", experiment: str, pipeline_run: str | None) -> "RunInfo | None":
    """Return the parent of a pipeline run, by default the one in the environment, or None if no step has created it."""
    known = os.environ.get(PARENT_VARIABLE) or os.environ.get(INJECTED_VARIABLE)
    if pipeline_run is None and known:
        return _top(client, client.get_run(known)).info
    found = client.get_experiment_by_name(experiment)
    parents = _parents(client, found.experiment_id, pipeline_run or pipeline_run_here()) if found else []
    return parents[0] if parents else None


@explained()
def top_run(client: "MlflowClient", run_id: str) -> str:
    """Return the id of a run's topmost ancestor; its own id if it has no parent."""
    return str(_top(client, client.get_run(run_id)).info.run_id)


def _top(client: "MlflowClient", run: "Record") -> "Record":
    # A parent may be deleted for good.
    with ignoring("RESOURCE_DOES_NOT_EXIST"):
        while above := run.data.tags.get(PARENT_RUN):
            run = client.get_run(above)
    return run


@explained()
def _reopen(client: "MlflowClient", run: "RunInfo") -> None:
    """Set an ended run to RUNNING again, because its pipeline run is retried or its step is attempted again."""
    if run.status != "RUNNING":
        client.update_run(run.run_id, status="RUNNING")


@explained()
def _adopted(client: "MlflowClient", run_id: str, name: str, tags: Mapping[str, str]) -> Run:
    """Return the run that KFP's MLflow plugin created for this step, moved to the second level.

    The plugin nests it below the run of the graph or loop that contains the step. It becomes a child of the topmost run
    instead, so that every record has two levels. The topmost run gets the tags of a parent that a step creates, and
    becomes the parent of all further runs of this step.
    """
    found = client.get_run(run_id)
    top = _top(client, found).info.run_id
    run = Run(client, run_id, found.info.experiment_id, top if top != run_id else None)
    os.environ[PARENT_VARIABLE] = top
    pipeline_run = os.environ.get(KFP_RUN_VARIABLE)
    if pipeline_run:
        client.set_tag(top, PIPELINE_RUN, pipeline_run)
    above = {PARENT_RUN: top} if run.parent_id else {}
    run.set_tags({**tags, **above, SOURCE_NAME: _SOURCE, RUN_NAME: name})
    _reopen(client, found.info)
    return run


@explained()
def _end_earlier_attempts(run: Run, name: str, tags: Mapping[str, str]) -> None:
    """End as KILLED the open runs of earlier attempts of this step in the same pipeline run."""
    if run.parent_id is None:
        return
    running = f"tags.`{PARENT_RUN}` = '{run.parent_id}' and attributes.status = 'RUNNING'"
    for other in list(search_all(run.client.search_runs, [run.experiment_id], running)):
        same = other.info.run_name == name and all(
            other.data.tags.get(key) == tags.get(key) for key in (ROLE, STRATEGY)
        )
        if same and other.info.run_id != run.id:
            run.client.set_terminated(other.info.run_id, "KILLED")


def child_run(parent: Run, name: str, tags: Mapping[str, str]) -> Run:
    """Create a running child of `parent`."""
    run_id = _create(parent.client, parent.experiment_id, name, {PARENT_RUN: parent.id, **tags})
    return Run(parent.client, run_id, parent.experiment_id, parent.id)


@explained()
def parent_run(client: "MlflowClient", experiment: str) -> Run:
    """Return the pipeline run's parent: the one named in the environment, else the one tagged with the KFP run id.

    Steps that start together may each find none and each create one. A step that created one, or found one younger than
    the settling time, searches again after all of them must be written. All steps then choose the earliest; each of the
    others is deleted by the step that created it.
    """
    known = os.environ.get(PARENT_VARIABLE)
    if known:
        parent = client.get_run(known).info
        _reopen(client, parent)
        return Run(client, known, parent.experiment_id, None)
    pipeline_run = pipeline_run_here()
    experiment_id = experiment_named(client, experiment)
    found = _parents(client, experiment_id, pipeline_run)
    made = None
    if not found:
        made = new_parent(client, experiment_id, name=f"{experiment}-{pipeline_run[:8]}", pipeline_run=pipeline_run)
    if made or time.time() - found[0].start_time / 1000 < 2 * _SETTLING_SECONDS:
        time.sleep(_SETTLING_SECONDS)
        found = _parents(client, experiment_id, pipeline_run)
    chosen = found[0]
    if made and made.id != chosen.run_id:
        client.delete_run(made.id)
    _reopen(client, chosen)
    return Run(client, chosen.run_id, experiment_id, None)


def pipeline_run_here() -> str:
    """Return the id of this step's run on the cluster."""
    pipeline_run = os.environ.get(KFP_RUN_VARIABLE)
    if not pipeline_run:
        raise HeadstartError(
            f"This step does not know its pipeline run: none of {INJECTED_VARIABLE}, {PARENT_VARIABLE} and "
            f"{KFP_RUN_VARIABLE} is set; run it through `headstart run` or `headstart submit`."
        )
    return pipeline_run


def new_parent(
    client: "MlflowClient", experiment_id: str, *, name: str, pipeline_run: str, tags: Mapping[str, str] | None = None
) -> Run:
    """Create the parent run of the pipeline run with the id `pipeline_run`."""
    return new_run(client, experiment_id, name=name, tags={PIPELINE_RUN: pipeline_run, **(tags or {})})


def new_run(client: "MlflowClient", experiment_id: str, *, name: str, tags: Mapping[str, str]) -> Run:
    """Create a running run without a parent."""
    return Run(client, _create(client, experiment_id, name, tags), experiment_id, None)


@explained()
def experiment_named(client: "MlflowClient", name: str, artifact_location: str | None = None, note: str = "") -> str:
    """Return the id of the experiment `name`; create it if it does not exist, which another step may be doing too.

    Args:
        artifact_location: of a new experiment; default: the server's, or of a store in a file that of its oldest
            experiment, else the folder beside it. MLflow would choose the working directory.
        note: the description of a new experiment, in Markdown.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        artifact_location = artifact_location or _artifacts_of_store(client)
        with ignoring("RESOURCE_ALREADY_EXISTS"):
            # The kind makes the MLflow page open on the runs; by default it opens on traces of agents.
            tags = {EXPERIMENT_KIND: "custom_model_development", **({NOTE: note} if note else {})}
            return client.create_experiment(name, artifact_location=artifact_location, tags=tags)
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise HeadstartError(
            f"The MLflow experiment {name!r} was deleted; restore it in the MLflow page or, if it is a recipe's name, "
            "rename the recipe."
        )
    return experiment.experiment_id


def _artifacts_of_store(client: "MlflowClient") -> str | None:
    """Return where a store in a file keeps the artifacts of experiments that name no place; None for a server.

    A folder beside a copied store would say that its artifacts were copied too (database.settle), so what is there
    decides.
    """
    file = file_of(client.tracking_uri)
    if file is None:
        return None
    found = search_all(client.search_experiments, order_by=["creation_time ASC"])
    places = [str(each.artifact_location) for each in found if each.name != "Default"]
    return places[0] if places else artifacts_beside(file).as_uri()


@explained()
def _create(client: "MlflowClient", experiment_id: str, name: str, tags: Mapping[str, str]) -> str:
    """Create a run and return its id.

    If the connection breaks before the server's answer arrives, MLflow's client repeats the request and the server
    creates two runs; the extra one is deleted.
    """
    mark = uuid.uuid4().hex
    ours = {CREATION: mark, USER: user_name(), SOURCE_NAME: _SOURCE}
    created = client.create_run(
        experiment_id, run_name=name, tags={**ours, **{key: str(value) for key, value in tags.items()}}
    )
    for run in client.search_runs([experiment_id], f"tags.`{CREATION}` = '{mark}'"):
        if run.info.run_id != created.info.run_id:
            client.delete_run(run.info.run_id)
    return created.info.run_id


@explained()
def _parents(client: "MlflowClient", experiment_id: str, pipeline_run: str) -> list["RunInfo"]:
    """Return the parents that steps created for a pipeline run, earliest first.

    If there is none, return the run that KFP's MLflow plugin opened, after tagging it as a parent.
    """
    found = _tops(client, experiment_id, PIPELINE_RUN, pipeline_run)
    if not found:
        found = _tops(client, experiment_id, PLUGIN_PIPELINE_RUN, pipeline_run)[:1]
        for run in found:
            client.set_tag(run.run_id, PIPELINE_RUN, pipeline_run)
    return found


@explained()
def _tops(client: "MlflowClient", experiment_id: str, tag: str, value: str) -> list["RunInfo"]:
    """Return the runs without a parent that carry a tag, earliest first."""
    # The run id breaks ties between equal start times in the same way for every process.
    found = client.search_runs(
        [experiment_id],
        f"tags.`{tag}` = '{value}'",
        order_by=["attributes.start_time ASC", "attributes.run_id ASC"],
    )
    return [run.info for run in found if PARENT_RUN not in run.data.tags]


def _entries(metrics: Mapping[str, float | None], step: int) -> list["Metric"]:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    return [
        Metric(key, float(value) if math.isfinite(value) else math.nan, now, step)
        for key, value in metrics.items()
        if value is not None
    ]


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
