"""MLflow runs: one parent for a pipeline run, one child for a step or strategy, found from the environment."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError
from headstart.tracking.client import connect, explained
from headstart.tracking.names import EXPERIMENT_KIND, PARENT_RUN, PIPELINE_RUN, ROLE

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import RunInfo

# Set by the local runner, which makes the parent before the first step starts.
PARENT_VARIABLE = "HEADSTART_PARENT_RUN_ID"
# Set on a cluster from the pod's label `pipeline/runid`.
KFP_RUN_VARIABLE = "KFP_RUN_ID"
# Set by KFP's MLflow plugin: the run that it made for this task.
INJECTED_VARIABLE = "MLFLOW_RUN_ID"

# Longer than a step takes from looking for a parent to having written its own.
_SETTLING_SECONDS = 2.0

_PARAM_LIMIT = 6000


@dataclass(frozen=True)
class Run:
    """One MLflow run to write to. Every call is one request; metrics and parameters go in batches."""

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
        """Metrics at `step`, which is the epoch for everything measured during training."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        with explained():
            self.client.log_batch(self.id, metrics=[Metric(k, float(v), now, step) for k, v in metrics.items()])

    def log_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """`log_metrics` in the shape that the training loop calls."""
        self.log_metrics(metrics, step=epoch)

    def set_tags(self, tags: Mapping[str, str]) -> None:
        """Tags, each replacing what it was."""
        from mlflow.entities import RunTag

        with explained():
            self.client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def log_page(self, name: str, html: str) -> None:
        """An HTML page as the artifact `name`, whose ending .html makes the MLflow page show it."""
        with explained():
            self.client.log_text(self.id, html, name)

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
    are. An injected one belongs to KFP's MLflow plugin, which also ends it; it is taken once, by the first call of a
    process.
    """
    client = connect()
    all_tags = {**({ROLE: role} if role else {}), **(tags or {})}
    injected = os.environ.pop(INJECTED_VARIABLE, None)
    if injected:
        with explained():
            info = client.get_run(injected)
        run = Run(client, injected, info.info.experiment_id, info.data.tags.get(PARENT_RUN))
        os.environ[PARENT_VARIABLE] = run.parent_id or run.id
        run.set_tags({**all_tags, "mlflow.runName": name})
        yield run
        return
    parent = parent_run(client, experiment)
    run = child_run(parent, name, all_tags)
    try:
        with _exiting_when_terminated():
            yield run
    except BaseException as error:
        client.set_terminated(run.id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    client.set_terminated(run.id, "FINISHED")


@contextmanager
def _exiting_when_terminated() -> Iterator[None]:
    """Makes SIGTERM raise SystemExit, so that a terminated step still ends its run. Only the main thread gets it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def child_run(parent: Run, name: str, tags: Mapping[str, str]) -> Run:
    """A new, running child of `parent`."""
    with explained():
        created = parent.client.create_run(
            parent.experiment_id, run_name=name, tags={PARENT_RUN: parent.id, **{k: str(v) for k, v in tags.items()}}
        )
    return Run(parent.client, created.info.run_id, parent.experiment_id, parent.id)


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


def new_parent(client: "MlflowClient", experiment_id: str, *, name: str, pipeline_run: str) -> Run:
    """A parent run for the pipeline run called `pipeline_run`."""
    with explained():
        created = client.create_run(experiment_id, run_name=name, tags={PIPELINE_RUN: pipeline_run})
    return Run(client, created.info.run_id, experiment_id, None)


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


def _flat(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
