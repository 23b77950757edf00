"""The record of a search: one run with a nested run for each trial, in the experiment of the recipe."""

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headstart.errors import HeadstartError
from headstart.signals import exiting_when_terminated
from headstart.tracking.client import explained, search_all
from headstart.tracking.names import NOTE, PARENT_RUN, ROLE, SEARCH, SOURCE_MODEL, STRATEGY, TRIAL_RUN, TRIAL_STATE
from headstart.tracking.run_owner import owner_tags
from headstart.tracking.runs import Run, child_run, end, end_with_steps, experiment_named, new_run, pipeline_run_here

if TYPE_CHECKING:
    from mlflow import MlflowClient

QUARTER_LOSS = "search/quarter_loss"
"""The metric of a trial on a cluster: its lowest held-out loss after 1, 2 and 3 quarters of its epochs, the step."""


@contextmanager
def search_run(
    client: "MlflowClient", experiment_id: str, name: str, run_id: str | None, *, key: str | None = None
) -> Iterator[Run]:
    """Open the run of a search: the one with this id, which an earlier session began, or a new one.

    It ends as FINISHED, as FAILED if the body raises, or as KILLED if it is interrupted, and so do its trials that are
    still open. With a `key`, by which pods find the run, these are left open: the pods go on, and a further session
    with them.
    """
    tags = {ROLE: "search", **({SEARCH: key} if key else {})}
    run = _reopened(client, experiment_id, run_id) if run_id else None
    run = run or new_run(client, experiment_id, name=name, tags={**tags, **owner_tags()})
    finish = end if key else end_with_steps
    try:
        with exiting_when_terminated():
            yield run
    except BaseException as error:
        finish(run, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    finish(run, "FINISHED")


@explained()
def search_named(client: "MlflowClient", experiment: str, key: str) -> Run:
    """Find the run of a search by its key, in a pod.

    Raises:
        HeadstartError: the record has none.
    """
    experiment_id = experiment_named(client, experiment)
    found = client.search_runs([experiment_id], f"tags.`{SEARCH}` = '{key}'", order_by=["attributes.start_time DESC"])
    if not found:
        raise HeadstartError(
            f"The record has no search {key} in the experiment {experiment}: it was deleted, or the command that "
            "leads it writes to another MLflow server; set MLFLOW_TRACKING_URI there to the one of the cluster."
        )
    return Run(client, found[0].info.run_id, experiment_id, None)


@contextmanager
def trial_run(parent: Run, name: str, source: str, settings: Mapping[str, Any]) -> Iterator[Run]:
    """Open the run of a trial, a child of its search, and log what the trial tries; it is closed by `end_trial`, or by
    the search."""
    run = new_trial(parent, name, source, settings)
    yield run
    run.flush()


@contextmanager
def pod_trial_run(parent: Run, name: str, source: str, settings: Mapping[str, Any]) -> Iterator[Run]:
    """`trial_run` in a pod, which an earlier attempt of the pod's step may have opened. A pod that is terminated leaves
    it open, for whoever leads the search knows why."""
    pipeline_run = pipeline_run_here()
    known = trial_records(parent).get(pipeline_run)
    run = known.run if known else new_trial(parent, name, source, settings, {TRIAL_RUN: pipeline_run})
    if known:
        _work_again(run)
    with exiting_when_terminated():
        try:
            yield run
        finally:
            run.flush()


def new_trial(
    parent: Run, name: str, source: str, settings: Mapping[str, Any], tags: Mapping[str, str] | None = None
) -> Run:
    """Make the run of a trial, and log what the trial tries."""
    run = child_run(parent, name, {ROLE: "trial", STRATEGY: name, SOURCE_MODEL: source, **(tags or {})})
    run.log_params({"source": source, **settings})
    return run


def end_trial(run: Run, state: str, figures: Mapping[str, float | None], *, reason: str | None = None) -> None:
    """End the run of a trial in its state, `complete`, `pruned` or `failed`, with its figures and why it is not
    complete."""
    run.flush()
    run.log_metrics(figures)
    run.set_tags({TRIAL_STATE: state, **({NOTE: reason} if reason else {})})
    end(run, "FAILED" if state == "failed" else "FINISHED")


@dataclass(frozen=True)
class TrialRecord:
    """The record of a trial on a cluster. `state` is None while the trial is at work, or where it was stopped; `reason`
    says why it is not complete; `seconds` is how long it took until now."""

    run: Run
    state: str | None
    reason: str | None
    metrics: Mapping[str, float]
    is_open: bool
    seconds: float

    @explained()
    def quarters(self) -> list[tuple[int, float]]:
        """The quarters of the epochs that are done, each with the lowest held-out loss so far."""
        if QUARTER_LOSS not in self.metrics:
            return []
        history = self.run.client.get_metric_history(self.run.id, QUARTER_LOSS)
        # A step that is attempted again says them again.
        return sorted({each.step: float(each.value) for each in history}.items())

    @explained()
    def download(self, name: str, place: Path) -> None:
        """Write the artifact `name` to the file `place`."""
        with tempfile.TemporaryDirectory() as folder:
            shutil.move(self.run.client.download_artifacts(self.run.id, name, folder), place)


@explained()
def trial_records(parent: Run) -> dict[str, TrialRecord]:
    """The records of a search's trials on a cluster, by the ids of their runs there."""
    client, found = parent.client, {}
    below = f"tags.`{PARENT_RUN}` = '{parent.id}' and tags.`{TRIAL_RUN}` LIKE '%'"
    for each in search_all(client.search_runs, [parent.experiment_id], below):
        tags = each.data.tags
        run = Run(client, each.info.run_id, parent.experiment_id, parent.id)
        seconds = (each.info.end_time or 1000 * time.time()) / 1000 - each.info.start_time / 1000
        found[tags[TRIAL_RUN]] = TrialRecord(
            run, tags.get(TRIAL_STATE), tags.get(NOTE), each.data.metrics, each.info.status == "RUNNING", seconds
        )
    return found


@explained()
def _work_again(run: Run) -> None:
    run.client.update_run(run.id, status="RUNNING")


@explained()
def _reopened(client: "MlflowClient", experiment_id: str, run_id: str) -> Run | None:
    """The run with this id, at work again and this process's; None if it was deleted."""
    known = client.search_runs([experiment_id], f"attributes.run_id = '{run_id}'")
    if not known:
        return None
    client.update_run(run_id, status="RUNNING")
    run = Run(client, run_id, experiment_id, None)
    run.set_tags(owner_tags())
    return run
